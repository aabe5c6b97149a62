"""What runs beside the code of the checkout that is measured: ``python -m inside.measure ORDER``.

The checkout's folder and this one's parent are on ``PYTHONPATH``. Old checkouts are measured, too, so nothing here
imports the project by itself: ``checkout.Checkout`` looks for each part where one of the checkouts has it.
"""

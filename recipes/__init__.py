"""How shipped models were made, beside the product: nothing that is installed imports it."""

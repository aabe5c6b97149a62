"""Sequential MNIST with grey values, the paper's form (arXiv 2508.11644, appendix E and Table 1)."""

from __future__ import annotations

from research.runs.plan import BASE, NO_SEARCH, ChosenSettings, Condition, Experiment
from research.runs.run import Training
from research.tasks.grey_images import GreyImageSpec

PAPER_SETTINGS = ChosenSettings(learning_rate=1e-3, tau_steps=12.5)  # U(5, 20)


def sequential_mnist() -> Experiment:
    """The paper's settings on the images of this machine: 3,500 of MNIST, 55,000 of Fashion-MNIST.

    Two things are smaller than the paper's: batches of 64 instead of 256, and 1,400 updates instead of 35,000. So a
    run tells whether the network learns, no more: no rule compares it with the paper's 98.93%, which needs 60,000
    images. It trains with banks of eight decays, and is judged in the exact form too.
    """
    training = Training(1400, 64, "cosine", evaluate_every=70, bank_size=8)
    return Experiment(
        "sequential-mnist",
        "grey-images",
        training,
        NO_SEARCH,  # the paper's settings take its place
        (
            Condition(BASE, GreyImageSpec(), ("hetsyn",), (True,), 3, settings=PAPER_SETTINGS, analysed=True),
            Condition(
                "fashion",
                GreyImageSpec("fashion", validation_images=1000, test_images=2000),
                ("hetsyn",),
                (True,),
                3,
                settings=PAPER_SETTINGS,
                analysed=True,
            ),
        ),
        analysis_streams=1000,
        changed_streams=0,
    )

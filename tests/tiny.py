"""Settings with which digits are trained in a second."""


def tiny(train: int, val: int, test: int, batch: int = 2, experiment: str = "digits") -> list[str]:
    """A small network on so many scenes of each split, with one partition and no search for the limiting stage."""
    scenes = [
        f"data.{split}_scenes={number}" for split, number in (("train", train), ("val", val), ("test", test))
    ]
    return [
        f"experiment={experiment}",
        "backbone.width=8",
        "backbone.levels=2",
        f"data.batch_size={batch}",
        *scenes,
        "loss.pairwise.num_pixels=64",
        "proposal.bandwidths=[0.4]",
        "callbacks.limits.images=0",
    ]

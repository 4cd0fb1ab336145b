"""Networks: backbone -> embedding -> grouping, with the head of each task. `forward` is the method figure."""

from jaxtyping import Float
from torch import Tensor, nn

from rpe.grouping import MeanShift
from rpe.network.backbone import Backbone
from rpe.network.embedding import Embedding
from rpe.network.head import BoundaryClassifier, Objectness
from rpe.sphere import normalise
from rpe.structures import Boundaries, Iterates, NetworkOutput


class PixelEmbedding(nn.Module):
    """Recurrent pixel embedding (Kong and Fowlkes, CVPR 2018, figure 1).

    `backbone` is any `rpe.network.backbone.Backbone`; the model does not know which. `objectness` may be a
    `Classifier`, which also predicts classes.
    """

    def __init__(
        self, backbone: Backbone, embedding: Embedding, grouping: MeanShift, objectness: Objectness
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedding = embedding
        self.grouping = grouping
        self.objectness = objectness

    def embed(self, images: Float[Tensor, "batch 3 height width"]) -> NetworkOutput:
        """Run the network without loops; inference groups its output."""
        finest = self.backbone(images)[0]
        objectness, classes = self.objectness.read(finest)
        return NetworkOutput(self.embedding(finest), objectness, finest, classes)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], positions: Float[Tensor, "batch pixel 2"]
    ) -> tuple[NetworkOutput, Iterates]:
        """Return the network's output, and the iterates X_0 .. X_T of the pixels at `positions`."""
        embedded = self.embed(images)
        return embedded, self.grouping(normalise(embedded.points.at(positions)))


class BoundaryDetector(nn.Module):
    """An embedding and a classifier on each stage of the backbone, and a fused classifier on all stages.

    Kong and Fowlkes, CVPR 2018, section 5.2.
    """

    def __init__(
        self,
        backbone: Backbone,
        embeddings: list[Embedding],
        grouping: MeanShift,
        classifier: BoundaryClassifier,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embeddings = nn.ModuleList(embeddings)
        self.grouping = grouping
        self.classifier = classifier

    def detect(self, images: Float[Tensor, "batch 3 height width"]) -> Boundaries:
        """Run the network without loops, as inference does."""
        stages = self.backbone(images)
        points = [embedding(stage) for embedding, stage in zip(self.embeddings, stages, strict=True)]
        single, fused = self.classifier(points, stages[0])
        return Boundaries(points, single, fused)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], positions: Float[Tensor, "batch pixel 2"]
    ) -> tuple[Boundaries, list[Iterates]]:
        """Return the network's output, and for each stage the iterates X_0 .. X_T at `positions`."""
        found = self.detect(images)
        return found, [self.grouping(normalise(stage.at(positions))) for stage in found.points]

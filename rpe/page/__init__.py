"""What the pages of report and gallery share: templates, and pictures that lie in the page itself."""

from rpe.tools.page.rendering import REFUSALS, embedded, embedded_file, render

__all__ = ["REFUSALS", "embedded", "embedded_file", "render"]

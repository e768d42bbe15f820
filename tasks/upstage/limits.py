"""The API's limits. The vendor changes them, so they are settings; the defaults are the published values."""

from pydantic import Field

from tasks.settings_model import SettingsModel

PRICE_PER_PAGE = 0.0015  # dollars, as the vendor publishes it
MOST = 1e9
"""The most that anything measured may be set to: sums of larger numbers overflow."""

RESULT_DAYS = 30  # how long the API keeps a finished request's result


class Limits(SettingsModel):
    """Limits of one request."""

    pages: int = Field(1000, ge=1, description="Maximum pages in one request; longer documents are sent in parts")
    sync_pages: int = Field(100, ge=1, description="Maximum pages in one synchronous request")
    megabytes: float = Field(50, gt=0, le=MOST, description="Largest file in one request, in MB (1,000,000 bytes)")
    pixels: int = Field(200_000_000, ge=1, description="Maximum pixels on one page")
    dpi: int = Field(150, ge=1, description="Dots per inch at which the API renders the pages of a PDF")

    @property
    def bytes(self) -> int:
        """The largest file in bytes."""
        return int(self.megabytes * 1_000_000)

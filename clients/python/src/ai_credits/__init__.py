"""A client of AI Credits: gates AI calls with credits."""

from .call import AsyncCall, Call, CallOrder
from .client import AICredits, AsyncAICredits
from .errors import AICreditsError, FieldError, InsufficientCredits, NotGated, Refused, Unavailable
from .pages import AsyncPages, Pages
from .send import CallOptions
from .steps import Outage, Response
from .version import __version__
from .workspace import AsyncWorkspace, Workspace

__all__ = [
    "AICredits",
    "AICreditsError",
    "AsyncAICredits",
    "AsyncCall",
    "AsyncPages",
    "AsyncWorkspace",
    "Call",
    "CallOptions",
    "CallOrder",
    "FieldError",
    "InsufficientCredits",
    "NotGated",
    "Outage",
    "Pages",
    "Refused",
    "Response",
    "Unavailable",
    "Workspace",
    "__version__",
]

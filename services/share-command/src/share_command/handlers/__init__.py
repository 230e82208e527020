"""Load, decide, append: one transaction for each command, each bulk device, each share that time ends."""

from share_command.handlers.commands import Limits
from share_command.handlers.expiry import Expiry
from share_command.handlers.running import Handlers, system_clock

__all__ = ["Expiry", "Handlers", "Limits", "system_clock"]

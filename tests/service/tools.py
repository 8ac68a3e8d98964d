"""launchctl, systemctl and loginctl for tests: they write down what they are asked, and know a little state."""

import os
import sys
from pathlib import Path

_HEAD = """#!/bin/sh
cd "{folder}"
echo "$(basename "$0") $*" >> calls
for word in "$@"; do
  if [ -f refuse ] && [ "$word" = "$(cat refuse)" ]; then echo "Access denied by the test" >&2; exit 5; fi
done
"""
SYSTEMCTL = (
    _HEAD
    + """
[ "$1" = --user ] || exit 64
case "$2" in
  daemon-reload) ;;
  enable) touch enabled ;;
  restart) touch running ;;
  disable) rm -f enabled running ;;
  show)
    if [ -f running ]; then printf 'ActiveState=active\nMainPID={pid}\n'; else echo ActiveState=inactive; fi
    if [ -f enabled ]; then echo UnitFileState=enabled; else echo UnitFileState=; fi ;;
  *) exit 64 ;;
esac
"""
)
LOGINCTL = _HEAD + 'echo "Linger=$(cat linger 2>/dev/null || echo no)"\n'
# A service that was booted out is still there for a while.
LAUNCHCTL = (
    _HEAD
    + """
case "$1" in
  print)
    case "$2" in
      */shoes.up)
        if [ -f leaving ]; then [ "$(cat leaving)" = x ] && rm -f running leaving || echo x > leaving; fi
        [ -f running ] || {{ echo "Could not find service" >&2; exit 113; }}
        printf '%s = {{\\n\\tstate = running\\n\\tpid = {pid}\\n}}\\n' "$2" ;;
      *) [ ! -f no-session ] || exit 112 ;;
    esac ;;
  enable) ;;
  bootstrap)
    [ ! -f running ] || {{ echo "Bootstrap failed: 5: Input/output error" >&2; exit 5; }}
    touch running ;;
  bootout) touch leaving; exit 36 ;;
  *) exit 64 ;;
esac
"""
)


class Tools:
    """The programs in a folder on PATH, and what they were asked."""

    def __init__(self, folder: Path, **scripts: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name, script in scripts.items():
            path = folder / "bin" / name
            path.write_text(script.format(folder=folder, pid=os.getpid()))
            path.chmod(0o755)

    @property
    def path(self) -> str:
        return os.pathsep.join((str(self.folder / "bin"), "/usr/bin", "/bin", str(Path(sys.executable).parent)))

    def calls(self, *, looking: bool = False) -> list[str]:
        """What was asked for, without the looks at the state."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        looks = ("systemctl --user show", "launchctl print", "loginctl show-user")
        return [line for line in lines if looking or not line.startswith(looks)]

    def clear(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    def set(self, name: str, value: str = "") -> None:
        (self.folder / name).write_text(value)

    def unset(self, name: str) -> None:
        (self.folder / name).unlink()

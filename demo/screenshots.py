"""Pictures of the morning report for the documentation, taken of the newest night.

python -m demo.screenshots [--page FILE] [--out docs/images] [--dark] [--whole]
"""

import argparse
from pathlib import Path

from demo.browser import chromium
from shoes.publishing.page import write
from shoes.publishing.page.nights import newest
from shoes.settings import PROJECT_ROOT, load_settings

SIZES = {390: 844, 1440: 1000}
"""Width to height: a phone and a desktop."""


def take(page: Path, out: Path, *, dark: bool, whole: bool) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    files = []
    with chromium() as browser:
        for width, height in SIZES.items():
            sheet = browser.new_page(
                viewport={"width": width, "height": height},
                device_scale_factor=2 if width < 700 else 1,
                color_scheme="dark" if dark else "light",
            )
            sheet.goto(page.absolute().as_uri())
            file = out / f"report-{width}{'-dark' if dark else ''}.png"
            sheet.screenshot(path=file, full_page=whole)
            files.append(file)
            sheet.close()
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="a page that is there [that of the newest night]")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / "docs" / "images")
    parser.add_argument("--dark", action="store_true", help="as the page looks at night")
    parser.add_argument("--whole", action="store_true", help="the whole page, not what is seen first")
    given = parser.parse_args()
    page = given.page or write(newest([load_settings().runs]))
    for file in take(page, given.out, dark=given.dark, whole=given.whole):
        print(file)


if __name__ == "__main__":
    main()

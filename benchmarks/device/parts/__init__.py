"""One module a part: `run(place)` gives its rows as they are found."""

"""Pictures drawn on request: `shoes generate`.

request.py    what is asked for, checked
prompts.py    prompts from the command line, a file or the data set, and the seed of each picture
adapters.py   which adapters are meant: the champion, the trained one, files
formats.py    adapter files in the field's formats, found and loaded
plan.py       all that decides the pictures
metadata.py   how a picture is made, inside its PNG
folder.py     the pictures of one plan on disk
run.py        draw what is missing
remake.py     a picture again, from itself alone
text.py       what is printed
"""

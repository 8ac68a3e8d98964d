"""The programs that `shoes up` keeps running, without knowing what they are for.

program      what is started: command, log, health; and which programs a machine needs: pure
ports        whether addresses are free
child        one program as a process: started, healthy, stopped
rotation     logs that don't grow for ever
record       what runs, kept beside the data, so that other commands and later starts find it
supervisor   all of them: started in order, restarted when they die, stopped together
"""

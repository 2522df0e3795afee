"""Runs a command at a terminal of so many columns and prints what it drew, byte for byte.

usage: terminal.py COLUMNS TEXT COMMAND [ARGUMENT...]

Once TEXT was drawn, if it is not empty, Ctrl-C is typed. Ends with the command's code, or with 128 and
the number of the signal that ended it.
"""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios

columns, text, command = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    # The size is there before anybody asks for it.
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # Whoever started the tests in the background may have had Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)
drawn, is_typed = b"", not text
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    drawn += piece
    if not is_typed and text in drawn:
        is_typed = True
        os.write(terminal, b"\x03")
sys.stdout.buffer.write(drawn)
sys.stdout.flush()
_, status = os.waitpid(child, 0)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)

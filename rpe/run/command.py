"""`rpe.command` under the name by which the commands that run a network know it."""

from rpe.command import command as command
from rpe.command import read_arguments as read_arguments

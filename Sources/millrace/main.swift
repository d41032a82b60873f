// main: hands over to the command line.
import MillraceServer

MillraceCommand.main()

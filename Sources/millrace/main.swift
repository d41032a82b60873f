import MillraceServer

MillraceCommand.main()

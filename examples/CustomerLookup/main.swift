// The program: one line, because closures in this file would belong to the main actor.

try await Example.run()

// The program: everything is in FusionBenchmark.swift, because closures in this file would belong to the main actor.

FusionBenchmark.run()

// main: the benchmark of encryption at rest.

EncryptionBenchmark.main()

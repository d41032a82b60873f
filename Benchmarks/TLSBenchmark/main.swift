// TLSBenchmark: processor time of TLS, on the server's side.

TLSBenchmark.main()

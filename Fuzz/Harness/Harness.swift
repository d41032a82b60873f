// Harness: chooses the target, runs it for libFuzzer, and measures what each input costs.

import CFuzzSupport
import Glibc
import MillraceBase

/// Safety: set once before the first input; libFuzzer has one thread.
nonisolated(unsafe) private var chosen: FuzzTarget?
nonisolated(unsafe) private var slowest: Int64 = 0
nonisolated(unsafe) private var largest: Int64 = 0
nonisolated(unsafe) private var inputs = 0

/// Chooses among a program's targets the one that `FUZZ_TARGET` names. `FUZZ_LIST` prints all names; `FUZZ_SEEDS` writes the
/// target's seeds into that directory. Both end the program.
package func startFuzzing(_ targets: [FuzzTarget]) -> CInt {
  if getenv("FUZZ_LIST") != nil {
    for target in targets { print(target.name) }
    exit(0)
  }
  let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
  guard let target = targets.first(where: { $0.name == name }) else {
    fuzz_fail("FUZZ_TARGET must name one of: \(targets.map(\.name).joined(separator: ", "))")
  }
  if let directory = getenv("FUZZ_SEEDS") {
    writeSeeds(target, String(cString: directory))
    exit(0)
  }
  // What is made once at first use is no input's fault.
  for seed in target.seeds() + [[]] { target.run(Bytes(seed)) }
  chosen = target
  atexit { print("fuzz: \(inputs) inputs, at most \(slowest) us and \(largest) bytes for one") }
  return 0
}

private func writeSeeds(_ target: FuzzTarget, _ directory: String) {
  for (number, seed) in target.seeds().enumerated() {
    guard let file = fopen("\(directory)/own-\(number)", "w") else { fuzz_fail("cannot write into \(directory)") }
    seed.withUnsafeBytes { buffer in
      if let base = buffer.baseAddress { fwrite(base, 1, buffer.count, file) }
    }
    fclose(file)
  }
}

/// Runs one input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  guard let target = chosen else { return 0 }
  // A copy of the exact size, so that the address sanitizer sees a read past its end.
  let input = Bytes(copying: UnsafeRawBufferPointer(start: data, count: size))
  fuzz_begin()
  target.run(input)
  var time = fuzz_cpu_microseconds()
  let bytes = fuzz_peak_bytes()
  inputs += 1
  let limit = target.limit.inNanoseconds / 1000
  // What the machine did meanwhile may be charged to the input (a host that took the processor away, pages that were
  // moved): of millions of inputs a few look slow once. What is slow stays slow.
  for _ in 0..<2 where time > limit {
    fuzz_begin()
    target.run(input)
    time = min(time, fuzz_cpu_microseconds())
  }
  slowest = max(slowest, time)
  largest = max(largest, bytes)
  if time > limit {
    fuzz_fail("\(target.name): \(time) us of processor time for \(size) bytes")
  }
  if bytes > Int64(target.allowance + 8 * size) {
    fuzz_fail("\(target.name): \(bytes) bytes of memory for \(size) bytes")
  }
  return 0
}

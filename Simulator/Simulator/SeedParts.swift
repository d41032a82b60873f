// SeedParts: many seeds in processes of their own, some hundred at a time.
//
// What a crash leaves of a simulated program refers to itself in circles and is never given back, a megabyte or two for each
// seed. A process that ends gives all of it back.

import Glibc
import MillraceBase

/// Runs seeds in parts and puts together what the parts print.
struct SeedParts {
  /// Seeds of one process.
  static let size: UInt64 = 250

  /// Arguments beside the seeds.
  let arguments: [String]
  private(set) var done: UInt64 = 0
  private(set) var counts: [String: Int] = [:]

  init(arguments: [String]) { self.arguments = arguments }

  /// Runs seeds in a process of their own; what it prints of a seed is printed.
  /// - Returns: whether no rule was broken.
  mutating func run(from: UInt64, count: UInt64) -> Bool {
    var ends: [CInt] = [0, 0]
    guard pipe(&ends) == 0 else { return fail("cannot make a pipe") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    posix_spawn_file_actions_addclose(&actions, ends[0])
    let words = [CommandLine.arguments[0], "--from", String(from), "--seeds", String(count)] + arguments
    var pointers = words.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    var process = pid_t()
    let status = posix_spawn(&process, "/proc/self/exe", &actions, nil, pointers, environ)
    close(ends[1])
    guard status == 0, let input = fdopen(ends[0], "r") else {
      close(ends[0])
      return fail("cannot start a process for seeds \(from) on: error \(status)")
    }
    take(input)
    fclose(input)
    var end: CInt = 0
    while waitpid(process, &end, 0) < 0, errno == EINTR {}
    if end != 0, end & 0x7f != 0 { return fail("the process of seeds \(from) on ended by signal \(end & 0x7f)") }
    return end == 0
  }

  /// Reads a part's output: what it counted is added up, everything else is printed.
  private mutating func take(_ input: UnsafeMutablePointer<FILE>) {
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var isSummary = false
    while getline(&line, &capacity, input) > 0, let start = line {
      let text = String(cString: start).split(separator: "\n").first.map(String.init) ?? ""
      let words = text.split(separator: " ", maxSplits: 1)
      if words.count == 2, words[1].hasPrefix("seeds in "), let seeds = UInt64(words[0]) {
        done += seeds
        isSummary = true
      } else if isSummary, words.count == 2, let count = Int(words[0]) {
        counts[String(words[1]), default: 0] += count
      } else {
        print(text)
      }
    }
  }

  private func fail(_ reason: String) -> Bool {
    Logger.standardError(.error, reason)
    return false
  }
}

// StateBenchmark: keyed state of many keys: updates per second and core, and how long a restart takes.
//
// Arguments: `updates`, `beyond` (memory) or `restart` (default all), thousands of keys (default 10,000), and a folder for the data directory of
// `restart` (default the current one).

import Glibc
import Millrace

let arguments = CommandLine.arguments.dropFirst()
let what = arguments.first ?? "all"
let keys = max(1, Int(arguments.dropFirst().first ?? "") ?? 10_000) * 1000
let folder = arguments.dropFirst(2).first ?? "."
do {
  if what == "all" || what == "updates" {
    Limits.memory(size: keys * 64)
    try Updates(keys: keys, updates: 2 * keys, keySize: 8, writesResults: false).run([.uniform, .zipf])
    try Updates(keys: keys, updates: 2 * keys, keySize: 16, writesResults: false).run([.uniform])
    try Updates(keys: keys, updates: 2 * keys, keySize: 8, writesResults: true).run([.uniform])
  }
  if what == "all" || what == "beyond" {
    for part in [2, 8] {
      let updates = Updates(
        keys: keys, updates: keys, keySize: 8, writesResults: false, memory: keys * 64 / part, folder: folder)
      try updates.run([.uniform, .zipf])
    }
  }
  if what == "all" || what == "restart" {
    try await Restart(folder: folder, keys: keys, valueSize: 0, rounds: 3).run()
    try await Restart(folder: folder, keys: keys, valueSize: 100, rounds: 2).run()
  }
} catch {
  Report.say("failed: \(error)")
  exit(1)
}

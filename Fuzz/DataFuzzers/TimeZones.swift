// TimeZones: zone files, and the days that follow from them.

import FuzzHarness
import MillraceBase

/// The first two bytes choose times; the rest is a zone file. What is accepted must say where local time comes to a midnight.
let timeZones = FuzzTarget(
  name: "time-zones",
  seeds: {
    func header(_ version: UInt8, _ changes: UInt8, _ types: UInt8) -> [UInt8] {
      Array("TZif".utf8) + [version] + [UInt8](repeating: 0, count: 27) + [
        0, 0, 0, changes, 0, 0, 0, types, 0, 0, 0, 0,
      ]
    }
    let change = [UInt8](repeating: 0, count: 6)
    let rules = ["", "CET-1CEST,M3.5.0,M10.5.0/3", "<-03>3<-02>,J60/0:30,300/-1", "XXX3EDT4,0/0,J365/23"]
    return rules.map { rule in
      [1, 2] + header(50, 0, 1) + change + header(50, 2, 2) + [UInt8](repeating: 0, count: 7) + [1]
        + [UInt8](repeating: 0, count: 6) + [1, 0] + [1, 0] + change + [0, 0, 14, 16, 1, 0] + Array("\n\(rule)\n".utf8)
    } + [[0, 0] + header(0, 1, 1) + [0, 0, 0, 9, 0] + change]
  }
) { input in
  var choices = Choices(input)
  let chosen = Int64(choices.number(below: 1 << 16)) - (1 << 15)
  do throws(DecodingError) {
    let rules = try TimeZoneRules(choices.rest())
    // About 1970, and as far away as event times go.
    for local in [chosen * 86_400, chosen * 3600, chosen << 36, chosen << 12] {
      let first = rules.firstTime(ofLocal: local)
      precondition(first + rules.offset(at: first) >= local, "\(first) s is before the local time \(local) s")
      precondition(
        first - 1 + rules.offset(at: first - 1) < local, "\(first) s is not the first of local time \(local) s")
    }
  } catch {
    return
  }
}

// CommandLines: what people write to the program: records as lines, command lines, addresses.

import FuzzHarness
import MillraceBase

@testable import MillraceServer

/// Records as `produce` reads them from JSON lines; what is accepted must survive writing and reading again.
let recordLines = FuzzTarget(
  name: "record-lines",
  seeds: {
    [
      #"{"key":"k","value":"v","headers":[{"key":"h","value":"1"}],"partition":3,"timestamp":17}"#,
      #"{"key_base64":"AAE=","value":null,"headers":{"a":"b"}}"#,
    ].map { Array($0.utf8) }
  }
) { input in
  do throws(DecodingError) {
    let wish = try input.withBuffer { buffer throws(DecodingError) in try RecordJSON.read(buffer) }
    precondition(wish.partition.map { $0 >= 0 } != false, "partition \(wish.partition ?? 0)")
  } catch {
    precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

/// Words of a command line, separated by zero bytes.
let commandLines = FuzzTarget(
  name: "command-lines",
  seeds: {
    [
      ["serve", "--data", "d", "--kafka", "127.0.0.1:0", "--set", "num.partitions=3"],
      ["topic", "create", "t", "--partitions", "4"], ["produce", "t", "--json"],
      ["consume", "t", "--from", "earliest"],
      ["inspect", "d"], ["--help"], ["stats", "--bootstrap", "[::1]:9092"],
    ].map { $0.joined(separator: "\0").utf8.map { $0 } }
  }
) { input in
  let words = input.array.split(separator: 0, omittingEmptySubsequences: false)
    .map { String(decoding: $0, as: UTF8.self) }
  do throws(CommandFailure) {
    _ = try MillraceCommand.choose(words)
  } catch {
    return
  }
}

/// Addresses as people give them; what is accepted must be understood again when it is shown.
let addresses = FuzzTarget(
  name: "addresses",
  seeds: { ["localhost:9092", "[::1]:1", "a.b.c:65535", "[fe80::1%eth0]:9"].map { Array($0.utf8) } }
) { input in
  let text = String(decoding: input.array, as: UTF8.self)
  guard let address = ServerAddress(text) else { return }
  precondition(address.port > 0 && !address.host.isEmpty, "\(address.host) and \(address.port)")
  _ = address.candidates(hosts: text)
}

// Configurations: a server's configuration file, and URLs of listeners.

import FuzzHarness
import Glibc
import MillraceBase

@testable import Millrace
@testable import MillraceServer

private let arguments: Arguments = {
  do throws(CommandFailure) {
    guard case .run(_, let arguments) = try MillraceCommand.choose(["serve", "--config", "f"]) else {
      preconditionFailure("serve is no command")
    }
    return arguments
  } catch {
    preconditionFailure("\(error)")
  }
}()

/// Whether others may connect without encryption or proof; judged by the address's bytes, not by what is looked at here.
private func isOpenToOthers(_ definition: ListenerDefinition) -> Bool {
  if definition.isEncrypted && !definition.effectiveMechanisms.isEmpty { return false }
  if definition.host == "localhost" { return false }
  var four = in_addr()
  if inet_pton(AF_INET, definition.host, &four) == 1 { return withUnsafeBytes(of: four) { $0[0] != 127 } }
  var six = in6_addr()
  guard inet_pton(AF_INET6, definition.host, &six) == 1 else { return true }
  return withUnsafeBytes(of: six) { bytes in
    let isLoopback = bytes[..<15].allSatisfy { $0 == 0 } && bytes[15] == 1
    let isMapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 255 && bytes[11] == 255 && bytes[12] == 127
    return !isLoopback && !isMapped
  }
}

/// A configuration file; what was understood of it means the same when it is written anew, and errors name lines that there are.
let configurationFiles = FuzzTarget(
  name: "configuration-files", allowance: 8 << 20, limit: .milliseconds(400),
  seeds: {
    [
      "data=d\nnum.partitions = 3\n# a comment\n! another\nlisteners=kafka://127.0.0.1:9092,\\\n  amqp://127.0.0.1:5672\n",
      "data=d\nlisteners=kafka+tls://[::1]:1?auth=scram,plain&certificate=c&key=k,https://0.0.0.0:2?auth=none\ninsecure.listener=true\n",
      "\u{feff}data=d\r\nnum.partitons=3\r\nnum.partitions=x\r\nnum.partitions=4\r\n",
      "data=d\nlisteners=kafka://a\tb\u{1b}[2J:1?auth=x\ty\n",
      "kafka=70000\nhost=nowhere\nadvertise=a:1\n", "a\\",
      "tls.certificate=c\ntls.key=k\nsasl.oauthbearer.jwks.endpoint.url=file:///k\nssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/L\n",
    ].map { Array($0.utf8) }
  }
) { input in
  let bytes = input.array
  let file = ConfigurationFile(bytes, path: "f")
  let lines = 1 + bytes.count { $0 == 0x0a }
  precondition(Set(file.entries.map(\.name)).count == file.entries.count, "a name stands twice")
  precondition(file.entries.allSatisfy { (1...lines).contains($0.line) }, "an entry in a line that there is not")
  // What no name and value can begin or end with; the rest is written as it was read.
  let plain = file.entries.map { "\($0.name)=\($0.value)\n" }.joined()
  let again = ConfigurationFile(Array(plain.utf8), path: "f")
  let isPlain = file.entries.allSatisfy { !"#!\u{feff}".contains($0.name.first ?? "#") && !$0.value.hasSuffix("\\") }
  if isPlain {
    precondition(again.problems.isEmpty, "what was taken is refused: \(again.problems)")
    precondition(
      again.entries.map { [$0.name, $0.value] } == file.entries.map { [$0.name, $0.value] }, "it is read in another way"
    )
  }
  let (configuration, problems) = ServerConfiguration.gather(
    arguments, environment: [:], readsFile: true, read: { _, _ in bytes })
  for problem in problems {
    precondition(problem.description.utf8.allSatisfy { $0 >= 32 && $0 != 127 }, "a message with a control character")
  }
  if problems.isEmpty {
    for definition in configuration.definitions where !configuration.allowsInsecureListeners {
      precondition(!isOpenToOthers(definition), "\(definition.url) is open to others")
    }
  }
}

/// The URL of a listener; what is taken is understood, and shown as what it is.
let listenerURLs = FuzzTarget(
  name: "listener-urls",
  seeds: {
    [
      "kafka://127.0.0.1:9092", "amqps://[::1]:0?auth=plain,certificate&client-certificates=required&client-ca=a&crl=r",
      "kafka+tls://0.0.0.0:9093?auth=scram&advertise=broker.example.com:9093&certificate=c&key=k",
      "https://localhost:1?auth=oauth",
    ].map { Array($0.utf8) }
  }
) { input in
  let text = String(decoding: input.array, as: UTF8.self)
  do throws(ListenerDefinition.Problem) {
    let definition = try ListenerDefinition(text)
    let again = try ListenerDefinition(definition.url)
    precondition(
      again.service == definition.service && again.isEncrypted == definition.isEncrypted
        && again.host == definition.host
        && again.port == definition.port, "\(definition.url) is another listener")
    let flaw = definition.flaw(allowsInsecure: false, files: TLSFiles(), tokenKeys: nil)
    precondition(flaw != nil || !isOpenToOthers(definition), "\(definition.url) is open to others")
  } catch { precondition(!error.text.isEmpty, "no reason") }
}

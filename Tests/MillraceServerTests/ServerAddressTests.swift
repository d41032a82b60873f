// ServerAddressTests: where a name leads without the system's resolver; who reads which partition.

import MillraceKafkaProtocol
import Testing

@testable import MillraceServer

@Test("an address is a host and a port, with brackets around IPv6")
func readsAddresses() {
  #expect(ServerAddress("localhost:9092") == ServerAddress(host: "localhost", port: 9092))
  #expect(ServerAddress("[::1]:1") == ServerAddress(host: "::1", port: 1))
  for wrong in ["", "host", "host:", ":1", "host:0", "host:65536", "::1:9092", "[]:1"] {
    #expect(ServerAddress(wrong) == nil, "\(wrong)")
  }
}

@Test("localhost is tried over IPv4 and then IPv6, other names come from the hosts file, numbers stay")
func findsNames() {
  let hosts = "# comment box\n127.0.0.5 box box.local # other\n::5\tBox\n10.0.0.1 localhost\n"
  func found(_ host: String) -> [String] {
    ServerAddress(host: host, port: 1).candidates(hosts: hosts).map(\.host)
  }
  #expect(found("localhost") == ["127.0.0.1", "::1"])
  #expect(found("box") == ["127.0.0.5", "::5"])
  #expect(found("box.local") == ["127.0.0.5"])
  #expect(found("other") == ["other"])
  #expect(found("127.0.0.9") == ["127.0.0.9"])
}

private func member(_ id: String, _ topics: String..., instance: String? = nil) -> RangeAssignor.Member {
  RangeAssignor.Member(id: id, instanceID: instance, topics: topics)
}

@Test("range gives neighbouring partitions, and the first members one more")
func rangeAssigns() {
  let result = RangeAssignor.assign(
    [member("b", "t", "u"), member("a", "t"), member("c", "gone")], partitions: ["t": [2, 0, 1], "u": [0]])
  #expect(result["a"] == [ConsumerTopicPartitions(topic: "t", partitions: [0, 1])])
  #expect(
    result["b"] == [
      ConsumerTopicPartitions(topic: "t", partitions: [2]), ConsumerTopicPartitions(topic: "u", partitions: [0]),
    ])
  #expect(result["c"] == [])
}

@Test("range puts static members first, in the order of their own ids")
func rangePutsStaticMembersFirst() {
  let result = RangeAssignor.assign(
    [member("a", "t"), member("z", "t", instance: "one")], partitions: ["t": [0, 1, 2]])
  #expect(result["z"] == [ConsumerTopicPartitions(topic: "t", partitions: [0, 1])])
}

@Test("every number of partitions and members leaves none out and gives none twice")
func everyPartitionOnce() {
  for partitions in 0...7 {
    for members in 1...9 {
      let all = (0..<members).map { member("m\($0)", "t") }
      let result = RangeAssignor.assign(all, partitions: ["t": (0..<Int32(partitions)).map { $0 }])
      let given = result.values.flatMap { $0 }.flatMap(\.partitions).sorted()
      #expect(given == Array(0..<Int32(partitions)), "\(partitions) partitions, \(members) members")
      let sizes = result.values.map { $0.reduce(0) { $0 + $1.partitions.count } }
      #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1)
    }
  }
}

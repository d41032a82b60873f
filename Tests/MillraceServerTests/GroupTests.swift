// GroupTests: members of one group against a whole server in this process.

import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization
import Testing

@testable import MillraceServer

@Test("a lone member gets all partitions, and its commits outlive it")
func loneMember() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 3, configs: [])
    let member = GroupMember(client, group: "g", topic: "t")
    let all = (0..<3).map { TopicPartition("t", Int32($0)) }
    #expect(try member.join().sorted { $0.partition < $1.partition } == all)
    #expect(try member.committed(all) == [:])
    #expect(try member.commit([all[1]: 7]))
    try member.leave()
    let next = GroupMember(server.client(), group: "g", topic: "t")
    _ = try next.join()
    #expect(try next.committed(all) == [all[1]: 7])
    try next.leave()
  }
}

@Test("two members share the partitions, and the first gets all back when the second leaves")
func twoMembers() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 4, configs: [])
    let first = GroupMember(client, group: "g", topic: "t")
    #expect(try first.join().count == 4)

    let shared = Mutex<[TopicPartition]>([])
    let thread = try SystemThread(name: "second") {
      do {
        let second = GroupMember(server.client(), group: "g", topic: "t")
        let mine = try second.join()
        shared.withLock { $0 = mine }
        // Stays until it is told to join anew or is done.
        try second.leave()
      } catch {
        Issue.record("the second member failed: \(error)")
      }
    }
    // The server counts two members as soon as the second one waits for the first to rejoin.
    let end = MonotonicTime.now + .seconds(10)
    while server.call({ $0.groups.describe("g").members.count }) < 2, MonotonicTime.now < end {
      SystemClock.sleep(.milliseconds(2))
    }
    let mine = try first.join()
    #expect(mine.count == 2)
    thread.join()
    let theirs = shared.withLock { $0 }
    #expect(theirs.count == 2)
    #expect(Set(mine + theirs).count == 4)
    #expect(try first.join().count == 4)
    try first.leave()
    #expect(server.call { $0.groups.describe("g").state } != "Stable")
  }
}

@Test("a member of an older generation commits nothing and is told so")
func staleMember() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 1, configs: [])
    let member = GroupMember(client, group: "g", topic: "t")
    let mine = try member.join()
    // Another member of the same name as far as the server can tell: it sends the first one's leave.
    let id = server.call { $0.groups.describe("g").members.first?.id ?? "" }
    #expect(server.call { broker in (try? broker.groups.leave(group: "g", memberID: id, instanceID: nil)) != nil })
    #expect(try member.commit([mine[0]: 1]) == false)
    #expect(try member.committed(mine) == [:])
  }
}

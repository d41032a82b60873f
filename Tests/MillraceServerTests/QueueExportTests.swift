// QueueExportTests: a queue's definition, state and messages are exported like a topic's.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker
@testable import MillraceServer

@Test("an export keeps queues with the logs of their lanes, and names them in its report")
func exportsQueues() throws {
  let directory = try TemporaryDirectory()
  let server = try TestServer(directory: directory)
  let definition = DurableQueue.Definition(
    number: 1, virtualHost: "/", name: "q", isAutoDelete: false, arguments: .empty,
    lanes: [PartitionLogID(1), PartitionLogID(2)], created: .now)
  func append(_ make: @escaping @Sendable (Broker) -> AppendUnit) {
    server.call { broker in
      broker.log.append(make(broker)) { result in
        if case .failure(let error) = result { Issue.record("\(error)") }
      }
    }
  }
  append { _ in AppendUnit(event: MetadataEvent.queue(.queueCreated(definition)).encoded()) }
  for index in 0..<3 {
    append { broker in
      var builder = RecordBatchBuilder()
      builder.append(Record(value: Bytes("message \(index)"), timestamp: .now))
      let bytes = builder.finish()
      guard let lane = broker.log.partition(PartitionLogID(2)), let header = try? RecordBatchHeader.checked(bytes)
      else { preconditionFailure("the lane's log is not there") }
      var unit = AppendUnit(lane, bytes, header)
      unit.events = [MetadataEvent.queue(.published(1, lane: 1, bytes: 9)).encoded()]
      return unit
    }
  }
  server.stop()
  var events: [String] = []
  let inspected = try LogInspection.run(
    directory: directory.path, fileSystem: LinuxFileSystem(), collectingEvents: true
  ) { events += $0.eventBytes.map { bytes in (try? MetadataEvent(bytes))?.description ?? "?" } }
  #expect(inspected.problems.isEmpty && events.count == inspected.events)
  #expect(events.contains { $0.hasPrefix("queue 1 created: \"q\" in vhost \"/\"") })
  #expect(events.count { $0 == "queue 1: 9 B published to lane 1" } == 3)
  let target = try TemporaryDirectory()
  var random = SeededRandom(seed: 1)
  let metadata = Metadata()
  let export = try LogExport.run(
    from: directory.path, to: target.path, fileSystem: LinuxFileSystem(), stateMachine: metadata,
    reactor: try EpollReactor(name: "export", logger: .silent), logger: .silent, random: &random)
  #expect(export.records == 3 && export.partitions == 2 && export.losses.isEmpty)
  let text = ExportCommand.text(export, metadata: metadata, target: target.path)
  #expect(text.contains("0 topics and 1 queues with 2 partitions"))
  let again = try TestServer(directory: target)
  let found = again.call { ($0.metadata.queues[1], $0.log.partition(PartitionLogID(2))?.highWatermark) }
  #expect(found.0?.definition == definition && found.0?.publishedBytes == [1: 27] && found.1 == 3)
  again.stop()
}

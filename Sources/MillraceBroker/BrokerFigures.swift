// BrokerFigures: a running broker's live figures as JSON, and the samples that rates are made from.
//
// {"uptimeSeconds", "connections", "memory": {"residentBytes", "hotTailBytes"},
//  "journal": {"commits", "bytes", "commitsPerSecond": RATE, "bytesPerSecond": RATE, "commit": LATENCY, "flush": LATENCY},
//  "storage": {"availableBytes", "isSpaceLow", "compactions", "recordsCompactedAway", "merges", "scrubRounds",
//              "scrubbedBytes", "damaged"},
//  "topics": [{"name", "partitions", "length", "sizeBytes", "recordsIn", "bytesIn", "bytesOut",
//              "recordsInPerSecond": RATE, "bytesInPerSecond": RATE, "bytesOutPerSecond": RATE}],
//  "groups": [{"name", "state", "members", "lag", "recordsPerSecond": RATE,
//              "topics": [{"name", "committed", "end", "lag"}]}],
//  "jobs": [{"name", "state", "epoch", "process", and of one that has run: as JobReport+JSON.swift in MillraceConnectors shows}],
//  "virtualHosts": as BrokerFigures+Queues.swift shows}
//
// RATE is {"1s", "10s"}: over the last second and the last ten, or as long as was sampled. LATENCY is
// {"p50", "p99", "max"} in microseconds since the start: of a commit from its first entry, of a flush from handing it to
// the device, both until it is durable. `length` counts offsets between start and high watermark over all partitions.
// `committed` and `end` are sums over the partitions of a topic that the group has committed in.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// Counters at one moment.
struct FigureSample {
  var time: MonotonicTime
  var commits: UInt64
  var journalBytes: UInt64
  var traffic: [PartitionLogID: PartitionTraffic]
  /// Of each group: the sum of its committed offsets.
  var committed: [String: Int64]
}

/// The last samples, one a second.
struct FigureSamples {
  private(set) var ring = Deque<FigureSample>()
  var isRunning = false
  static let interval = Duration.seconds(1)
  static let most = 11

  mutating func add(_ sample: FigureSample) {
    ring.append(sample)
    if ring.count > FigureSamples.most { ring.removeFirst() }
  }

  /// The youngest sample that is at least `age` old, else the oldest; nil when there is none.
  func sample(before now: MonotonicTime, age: Duration) -> FigureSample? {
    for index in (0..<ring.count).reversed() where now - ring[index].time >= age { return ring[index] }
    return ring.first
  }
}

extension Broker {
  /// Takes a sample of all counters every second from now on, so that ``figures(connections:)`` can tell rates.
  ///
  /// Without it, rates are over the whole time since the start.
  public func startSampling() {
    guard !samples.isRunning else { return }
    samples.isRunning = true
    takeSample()
  }

  private func takeSample() {
    guard isOpen else { return }
    samples.add(sample())
    reactor.schedule(after: FigureSamples.interval) { [self] in takeSample() }
  }

  private func sample() -> FigureSample {
    let journal = log.journalFigures
    return FigureSample(
      time: reactor.now, commits: journal.commits, journalBytes: journal.bytesWritten, traffic: traffic,
      committed: metadata.groupOffsets.mapValues { $0.values.reduce(0) { $0 + $1.offset } })
  }

  /// The live figures as JSON; the head of this file shows its form.
  /// - Parameter connections: open connections, which only a server knows.
  /// - Complexity: O(partitions + committed offsets + queues + bindings).
  public func figures(connections: Int = 0) -> String {
    let now = sample()
    let beginning = FigureSample(time: started, commits: 0, journalBytes: 0, traffic: [:], committed: now.committed)
    let rates = FigureRates(
      now: now, second: samples.sample(before: now.time, age: .milliseconds(900)) ?? beginning,
      tenSeconds: samples.sample(before: now.time, age: .milliseconds(9900)) ?? beginning)
    var json = JSONWriter()
    json.object { json in
      json.name("uptimeSeconds")
      json.number(Double((now.time - started).inMilliseconds) / 1000)
      json.name("connections")
      json.number(connections)
      json.name("memory")
      json.object { json in
        json.name("residentBytes")
        json.number(ProcessMemory.resident)
        json.name("hotTailBytes")
        json.number(log.hotTailSize)
      }
      json.name("journal")
      writeJournal(rates, to: &json)
      json.name("storage")
      writeStorage(to: &json)
      json.name("topics")
      json.array { json in
        for topic in topics.values.sorted(by: { $0.name < $1.name }) { write(topic, rates, to: &json) }
      }
      json.name("groups")
      json.array { json in
        for name in groups.names { write(group: name, rates, to: &json) }
      }
      json.name("jobs")
      if let writesJobs { writesJobs(&json) } else { json.array { _ in } }
      json.name("virtualHosts")
      queues.writeFigures(to: &json)
    }
    return json.text
  }

  private func writeJournal(_ rates: FigureRates, to json: inout JSONWriter) {
    let journal = log.journalFigures
    json.object { json in
      json.name("commits")
      json.number(journal.commits)
      json.name("bytes")
      json.number(journal.bytesWritten)
      rates.write("commitsPerSecond", to: &json) { Double($0.commits) }
      rates.write("bytesPerSecond", to: &json) { Double($0.journalBytes) }
      for (name, histogram) in [("commit", journal.commitLatency), ("flush", journal.flushLatency)] {
        json.name(name)
        json.object { json in
          json.name("p50")
          json.number(histogram.value(at: 0.5) / 1000)
          json.name("p99")
          json.number(histogram.value(at: 0.99) / 1000)
          json.name("max")
          json.number(histogram.maximum / 1000)
        }
      }
    }
  }

  private func writeStorage(to json: inout JSONWriter) {
    let cleaning = log.cleaningFigures
    let scrub = log.scrubFigures
    json.object { json in
      json.name("availableBytes")
      json.number(log.availableSpace)
      json.name("isSpaceLow")
      json.bool(log.isSpaceLow)
      json.name("compactions")
      json.number(cleaning.compactions)
      json.name("recordsCompactedAway")
      json.number(cleaning.removedRecords)
      json.name("merges")
      json.number(cleaning.merges)
      json.name("scrubRounds")
      json.number(scrub.rounds)
      json.name("scrubbedBytes")
      json.number(scrub.soundBytes)
      json.name("damaged")
      json.number(scrub.damaged)
    }
  }

  private func write(_ topic: TopicMetadata, _ rates: FigureRates, to json: inout JSONWriter) {
    let logs = topic.partitions.compactMap { log.partition($0) }
    func sum(_ sample: FigureSample, _ value: (PartitionTraffic) -> UInt64) -> Double {
      Double(topic.partitions.reduce(0) { $0 + (sample.traffic[$1].map(value) ?? 0) })
    }
    json.object { json in
      json.name("name")
      json.string(topic.name)
      json.name("partitions")
      json.number(topic.partitions.count)
      json.name("length")
      json.number(logs.reduce(0) { $0 + $1.highWatermark - $1.startOffset })
      json.name("sizeBytes")
      json.number(logs.reduce(0) { $0 + $1.size })
      json.name("recordsIn")
      json.number(UInt64(sum(rates.now) { $0.recordsIn }))
      json.name("bytesIn")
      json.number(UInt64(sum(rates.now) { $0.bytesIn }))
      json.name("bytesOut")
      json.number(UInt64(sum(rates.now) { $0.bytesOut }))
      rates.write("recordsInPerSecond", to: &json) { sum($0) { $0.recordsIn } }
      rates.write("bytesInPerSecond", to: &json) { sum($0) { $0.bytesIn } }
      rates.write("bytesOutPerSecond", to: &json) { sum($0) { $0.bytesOut } }
    }
  }

  private func write(group name: String, _ rates: FigureRates, to json: inout JSONWriter) {
    let group = groups.describe(name)
    var topics: [String: (committed: Int64, end: Int64)] = [:]
    for (partition, committed) in groups.offsets(name) {
      let end = topic(partition.topic).flatMap { self.partition($0, partition.partition) }?.highWatermark
      topics[partition.topic, default: (0, 0)].committed += committed.offset
      topics[partition.topic, default: (0, 0)].end += end ?? committed.offset
    }
    json.object { json in
      json.name("name")
      json.string(name)
      json.name("state")
      json.string(group.state)
      json.name("members")
      json.number(group.members.count)
      json.name("lag")
      json.number(topics.values.reduce(0) { $0 + max(0, $1.end - $1.committed) })
      rates.write("recordsPerSecond", to: &json) { Double($0.committed[name] ?? 0) }
      json.name("topics")
      json.array { json in
        for (topic, sums) in topics.sorted(by: { $0.key < $1.key }) {
          json.object { json in
            json.name("name")
            json.string(topic)
            json.name("committed")
            json.number(sums.committed)
            json.name("end")
            json.number(sums.end)
            json.name("lag")
            json.number(max(0, sums.end - sums.committed))
          }
        }
      }
    }
  }
}

/// Differences between samples as rates.
private struct FigureRates {
  let now: FigureSample
  let second: FigureSample
  let tenSeconds: FigureSample

  private func rate(since earlier: FigureSample, _ value: (FigureSample) -> Double) -> Double {
    let seconds = Double((now.time - earlier.time).inNanoseconds) / 1e9
    // A group may go back, which is no rate.
    return seconds > 0 ? max(0, (value(now) - value(earlier)) / seconds) : 0
  }

  func write(_ name: String, to json: inout JSONWriter, _ value: (FigureSample) -> Double) {
    json.name(name)
    json.object { json in
      json.name("1s")
      json.number(rate(since: second, value))
      json.name("10s")
      json.number(rate(since: tenSeconds, value))
    }
  }
}

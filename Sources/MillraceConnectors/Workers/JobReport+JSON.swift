// JobReport+JSON: a report as `millrace stats --json` and `millrace job show --json` write it.
//
// {"recordsIn", "recordsOut", "bytesIn", "bytesOut", "lateRecords", "failedRecords", "steps", "commits", "stateKeys", "lag",
//  "watermark": ms since 1970 or null, "busySeconds", "waitedForCommitsSeconds", "commit": LATENCY, "latency": LATENCY,
//  "recordsInPerSecond": RATE, "recordsOutPerSecond": RATE, "bytesInPerSecond": RATE, "stepsPerSecond": RATE,
//  "commitsPerSecond": RATE, "busyThreads": RATE,
//  "chains": [{"operators": [{"number", "kind", "name"}], "upstreams": [number], "isKeyed", "recordsIn", "recordsOut", "bytesIn",
//              "bytesOut", "lateRecords", "failedRecords", "stateEntries", "stateBytes", "busySeconds", "timedWith": number,
//              "watermark", "watermarkHolder": {"input", "partition"}}],
//  "inputs": [{"input", "partition", "lag", "timeLagSeconds"}]}
//
// RATE is {"1s", "10s"}, LATENCY is {"p50", "p99"} in microseconds, or null while nothing was measured. What a chain or input does not
// have is null.

import MillraceBase
import MillraceDataflow

extension JobReport {
  /// Writes the report's members into an object that is being written.
  public func writeMembers(to json: inout JSONWriter) {
    for (name, value) in [
      ("recordsIn", recordsIn), ("recordsOut", recordsOut), ("bytesIn", bytesIn), ("bytesOut", bytesOut),
      ("lateRecords", lateRecords), ("failedRecords", failedRecords), ("steps", steps), ("commits", commits),
      ("stateKeys", stateKeys), ("lag", lag),
    ] {
      json.name(name)
      json.number(value)
    }
    json.member("watermark", watermark)
    json.name("busySeconds")
    json.number(Double(busy) / 1e9)
    json.name("waitedForCommitsSeconds")
    json.number(Double(waitedForCommits) / 1e9)
    for (name, quantiles) in [("commit", commitLatency), ("latency", latency)] {
      json.name(name)
      guard !quantiles.isEmpty else {
        json.null()
        continue
      }
      json.object { json in
        json.name("p50")
        json.number(quantiles.p50 / 1000)
        json.name("p99")
        json.number(quantiles.p99 / 1000)
      }
    }
    for (name, rate) in [
      ("recordsInPerSecond", \JobRates.recordsIn), ("recordsOutPerSecond", \.recordsOut),
      ("bytesInPerSecond", \.bytesIn), ("stepsPerSecond", \.steps), ("commitsPerSecond", \.commits),
      ("busyThreads", \.busy),
    ] {
      json.name(name)
      json.object { json in
        json.name("1s")
        json.number(lastSecond[keyPath: rate])
        json.name("10s")
        json.number(lastTenSeconds[keyPath: rate])
      }
    }
    json.name("chains")
    json.array { json in for one in chains { one.write(to: &json) } }
    json.name("inputs")
    json.array { json in for one in inputs { one.write(to: &json) } }
  }
}

extension JSONWriter {
  fileprivate mutating func member(_ name: String, _ value: (some BinaryInteger)?) {
    self.name(name)
    if let value { number(Int64(clamping: value)) } else { null() }
  }

  fileprivate mutating func member(_ name: String, _ time: Duration?) {
    self.name(name)
    if let time { number(time / .seconds(1)) } else { null() }
  }

  fileprivate mutating func members(_ place: InputPlace) {
    name("input")
    string(place.input)
    member("partition", place.partition)
  }
}

extension ChainFigures {
  fileprivate func write(to json: inout JSONWriter) {
    json.object { json in
      json.name("operators")
      json.array { json in
        for one in operators {
          json.object { json in
            json.member("number", one.number)
            json.name("kind")
            json.string(one.kind)
            json.name("name")
            json.string(one.name)
          }
        }
      }
      json.name("upstreams")
      json.array { json in for upstream in upstreams { json.number(upstream) } }
      json.name("isKeyed")
      json.bool(isKeyed)
      json.member("recordsIn", recordsIn)
      json.member("recordsOut", recordsOut)
      json.member("bytesIn", bytesIn)
      json.member("bytesOut", bytesOut)
      json.member("lateRecords", lateRecords)
      json.member("failedRecords", failedRecords)
      json.member("stateEntries", stateEntries)
      json.member("stateBytes", stateBytes)
      json.member("busySeconds", busy)
      json.member("timedWith", timedWith)
      json.member("watermark", watermark?.milliseconds)
      json.name("watermarkHolder")
      if let watermarkHolder { json.object { $0.members(watermarkHolder) } } else { json.null() }
    }
  }
}

extension InputFigures {
  fileprivate func write(to json: inout JSONWriter) {
    json.object { json in
      json.members(place)
      json.member("lag", lag)
      json.member("timeLagSeconds", timeLag)
    }
  }
}

// QueueFigures+JSON: the form that the head of QueueFigures.swift shows.

import MillraceBase

extension QueueFigures {
  /// Writes the figures as members of an object that the caller has opened.
  /// - Parameters:
  ///   - target: adds how many consumers it takes to meet it.
  ///   - hasBuckets: adds the histograms' buckets.
  public func writeMembers(to json: inout JSONWriter, target: WaitTarget? = nil, hasBuckets: Bool = false) {
    json.member("queues", queues)
    json.member("length", length)
    json.member("unacknowledged", unacknowledged)
    json.member("oldestAgeSeconds", oldestAgeSeconds)
    json.member("consumers", consumers)
    json.member("busyConsumers", busyConsumers)
    for (name, rates) in [
      ("arrivalsPerSecond", arrivals), ("deliveriesPerSecond", deliveries), ("settlementsPerSecond", settlements),
    ] {
      json.name(name)
      json.object { json in
        json.member("1s", rates.perSecond)
        json.member("10s", rates.overTenSeconds)
        json.member("60s", rates.overAMinute)
      }
    }
    json.member("utilisation", utilisation)
    for (name, histogram) in [("transfer", transfer), ("waiting", waiting), ("processing", processing)] {
      json.name(name)
      QueueFigures.write(histogram, hasBuckets: hasBuckets, to: &json)
    }
    json.name("totals")
    writeTotals(to: &json)
    json.name("window")
    json.object { json in
      json.member("seconds", windowSeconds)
      json.member("meanLength", meanLength)
      json.member("meanUnacknowledged", meanUnacknowledged)
      json.member("offeredPerSecond", offeredRate)
      json.member("serviceSeconds", service.count > 0 ? service.mean : nil)
      json.member("arrivalVariability", arrivalVariability)
      json.member("serviceVariability", service.squaredVariation)
    }
    json.name("littlesLaw")
    json.object { json in
      json.member("meanLength", littlesLaw.meanLength)
      json.member("departuresPerSecond", littlesLaw.departureRate)
      json.member("meanSojournSeconds", littlesLaw.meanSojournSeconds)
      json.member("product", littlesLaw.product)
      json.member("endsExplain", littlesLaw.endsExplain)
      json.name("verdict")
      json.string(littlesLaw.verdict().rawValue)
    }
    json.name("model")
    if let model { QueueFigures.write(model, target: target, to: &json) } else { json.null() }
  }

  private static func write(_ histogram: LatencyHistogram, hasBuckets: Bool, to json: inout JSONWriter) {
    json.object { json in
      json.member("count", histogram.count)
      json.member("mean", histogram.meanSeconds * 1e6)
      json.member("p50", histogram.nanoseconds(atQuantile: 0.5) / 1000)
      json.member("p99", histogram.nanoseconds(atQuantile: 0.99) / 1000)
      json.member("max", histogram.maximumNanoseconds / 1000)
      guard hasBuckets else { return }
      json.name("buckets")
      json.array { json in
        for bucket in histogram.buckets {
          json.array { json in
            json.number(bucket.belowNanoseconds / 1000)
            json.number(bucket.count)
          }
        }
      }
    }
  }

  private func writeTotals(to json: inout JSONWriter) {
    json.object { json in
      json.member("arrived", totals.arrived)
      json.member("refused", totals.refused)
      json.member("delivered", totals.delivered)
      json.member("redelivered", totals.redelivered)
      json.member("acknowledged", totals.acknowledged)
      json.member("returned", totals.returned)
      for (name, counts) in [("removed", totals.removed), ("deadLettered", totals.deadLettered)] {
        json.name(name)
        json.object { json in
          for reason in RemovalReason.allCases { json.member(reason.rawValue, counts[reason]) }
        }
      }
    }
  }

  private static func write(_ model: QueueingModel, target: WaitTarget?, to json: inout JSONWriter) {
    json.object { json in
      json.member("load", model.load)
      json.member("capacityPerSecond", model.capacity)
      json.name("isStable")
      json.bool(model.isStable)
      switch model.prediction {
      case .stable(let state):
        json.member("utilisation", state.utilisation)
        json.member("probabilityOfWaiting", state.probabilityOfWaiting)
        json.member("meanLength", state.meanWaiting)
        json.member("meanWaitSeconds", state.meanWaitSeconds)
        json.member("p99WaitSeconds", state.wait(atQuantile: 0.99))
      case .unstable(let growth): json.member("growthPerSecond", growth)
      }
      guard let target else { return }
      json.name("consumersNeeded")
      if let needed = model.consumersNeeded(for: target) { json.number(needed) } else { json.null() }
    }
  }
}

extension JSONWriter {
  fileprivate mutating func member(_ name: String, _ value: some BinaryInteger) {
    self.name(name)
    number(value)
  }

  fileprivate mutating func member(_ name: String, _ value: Double?) {
    self.name(name)
    if let value { number(value) } else { null() }
  }
}

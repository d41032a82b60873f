// Transfers: balances of accounts between which money moves, what they add up to, and each change of a balance.

import Millrace

/// From `transfers`, whose records say `FROM TO AMOUNT`, to two topics that are committed together:
///
/// - `changes`: `ACCOUNT BALANCE WEIGHT` for each balance that a step took back (−1) or brought (1);
/// - `totals`: `CHANGES TOTAL` for each step: how many records `changes` has so far, and what the balances add up to.
///
/// Each transfer takes from one account what it gives to another, so every total is 0, and so is the sum of balance times weight
/// over the first `CHANGES` records of `changes`, unless a commit holds balances that no prefix of the transfers explains.
enum Transfers {
  /// An amount that an account gains.
  struct Posting: ExchangeValue {
    var account: Int64
    var amount: Int64
  }

  /// The two postings of a transfer.
  struct Postings: FlatTransform {
    func apply(_ input: InputRecord, _ emit: (Posting) -> Void) {
      var numbers: (Int64, Int64, Int64) = (0, 0, 0)
      for byte in input.valueBuffer {
        if byte == UInt8(ascii: " ") {
          numbers = (numbers.1, numbers.2, 0)
        } else {
          numbers.2 = numbers.2 * 10 + Int64(byte &- UInt8(ascii: "0"))
        }
      }
      emit(Posting(account: numbers.0, amount: -numbers.2))
      emit(Posting(account: numbers.1, amount: numbers.2))
    }
  }

  typealias BalanceChange = Change<Keyed<NumberKey, Int64>>

  /// Counts changes, one by one, in `count`, and adds up in `sum` what the balances come to.
  struct Totals: WideAggregation {
    var initial: AverageState { AverageState() }

    func add(_ input: BalanceChange, to state: inout AverageState) {
      state.count += 1
      state.sum += input.value.value * input.weight
    }

    func merge(_ other: AverageState, into state: inout AverageState) {
      state.count += other.count
      state.sum += other.sum
    }
  }

  static func job() -> JobDefinition {
    let changes = DataStream.topic("transfers").flatMap(Postings())
      .keyBy { NumberKey($0.account) }.table.sum(name: "balances") { $0.amount }
      .changes().shared()
    return StreamOutput.job(
      named: "transfers",
      [
        changes.map { "\($0.value.key.number) \($0.value.value) \($0.weight)" }.to(topic: "changes"),
        changes.keyBy { _ in NumberKey(0) }.aggregate(Totals(), name: "totals")
          .map { "\($0.value.count) \($0.value.sum)" }.to(topic: "totals"),
      ])
  }

  /// Two workers, whose threads work however little there is to do.
  static var options: JobOptions {
    var options = JobOptions()
    options.readBytes = 64 << 10
    options.stepBytes = 128 << 10
    options.workers = 2
    options.wakeBytes = 1
    options.idleWait = .milliseconds(100)
    return options
  }
}

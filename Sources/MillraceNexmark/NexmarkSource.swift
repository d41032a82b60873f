// NexmarkSource: generated events as the input of a job.
//
// Position: the number of the event that comes next, int64, big endian.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Which of a range's events one of several sources gives. All shares of a range together give each event once.
public struct NexmarkShare: Equatable, Sendable {
  /// How a range is divided.
  public enum Division: Sendable {
    /// Share k of w gives every wth event, from the kth on: all shares are at about the same event time.
    case strided
    /// Share k of w gives the kth of w blocks, which differ by at most one event in length.
    case contiguous
  }

  /// Which share, from 0.
  public let index: Int
  /// How many there are.
  public let count: Int
  /// How the range is divided.
  public let division: Division

  /// Share `index` of `count`.
  public init(_ index: Int, of count: Int, _ division: Division = .strided) {
    precondition(count > 0 && index >= 0 && index < count, "share \(index) of \(count)")
    self.index = index
    self.count = count
    self.division = division
  }

  /// Everything.
  public static let whole = NexmarkShare(0, of: 1)

  /// The numbers of a range that belong to the share.
  func numbers(of range: Range<Int64>) -> (first: Int64, end: Int64, step: Int64) {
    let (index, count) = (Int64(index), Int64(count))
    switch division {
    case .strided: return (range.lowerBound + min(index, Int64(range.count)), range.upperBound, count)
    case .contiguous:
      let (size, larger) = Int64(range.count).quotientAndRemainder(dividingBy: count)
      let first = range.lowerBound + index * size + min(index, larger)
      return (first, first + size + (index < larger ? 1 : 0), 1)
    }
  }
}

/// Gives generated events in the order of their numbers: the value is the event as ``EncodedEvent`` reads it, the timestamp is its
/// time, and there is no key.
public final class NexmarkSource: ReplayableSource {
  private let generator: NexmarkGenerator
  private let first: Int64
  private let end: Int64
  private let step: Int64
  private var next: Int64
  private let room = UnsafeMutableRawBufferPointer.allocate(
    byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16)

  /// A source of the events whose numbers are in `events`, or of a share of them.
  public init(_ generator: NexmarkGenerator, events: Range<Int64>, share: NexmarkShare = .whole) {
    precondition(
      events.lowerBound >= 0 && events.upperBound <= NexmarkGenerator.eventLimit,
      "events \(events) are not below \(NexmarkGenerator.eventLimit)")
    self.generator = generator
    (first, end, step) = share.numbers(of: events)
    next = first
  }

  deinit { room.deallocate() }

  /// Goes to a position of a source with the same generator, range and share.
  /// - Throws: `.sourceFailed` when such a source does not come by there.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    do throws(DecodingError) {
      var reader = ByteReader(position)
      let number = try reader.int64()
      let behind = first + (end - first + step - 1) / step * step
      guard reader.remaining == 0, number >= first, number <= behind, (number - first) % step == 0
      else { throw DecodingError("event \(number) is none of this source", at: 0) }
      next = number
    } catch {
      throw JobError(.sourceFailed, "a position of the Nexmark source: \(error)")
    }
  }

  /// The next events.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    while next < end, builder.count == 0 || builder.size < maxBytes {
      let size = generator.encode(next, into: room)
      builder.append(
        key: nil, value: UnsafeRawBufferPointer(rebasing: room[..<size]), timestamp: generator.time(of: next))
      next += step
    }
    var position = ByteWriter(capacity: 8)
    position.int64(next)
    return SourceBatch(
      batch: builder.count > 0 ? builder.finish() : nil, position: position.finishJoined(), isFinished: next >= end)
  }
}

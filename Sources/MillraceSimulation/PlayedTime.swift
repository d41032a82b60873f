// PlayedTime: the processor time of a thread, for whoever charges it.

/// A time that goes on by as much as a test says with each look at it, and knows how often it was looked at.
public final class PlayedTime {
  /// How often it was looked at.
  public private(set) var looks = 0
  /// What each look takes.
  public var step = Duration.zero
  private var time = Duration.zero

  /// Stands still at zero.
  public init() {}

  /// The time, with this look's step.
  public func look() -> Duration {
    looks += 1
    time += step
    return time
  }
}

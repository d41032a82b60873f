// SystemError: turns the system's error numbers into IOError.

import CMillraceSystem
import Glibc

extension IOError {
  /// The error that the system's `number` (positive) stands for.
  public static func system(_ number: Int32, _ operation: String, _ subject: String) -> IOError {
    let code: Code
    switch number {
    case ENOSPC, EDQUOT: code = .noSpace
    case ENOENT: code = .notFound
    case EEXIST: code = .alreadyExists
    case EACCES, EPERM, EROFS: code = .accessDenied
    case EADDRINUSE: code = .addressInUse
    case EMFILE, ENFILE: code = .tooManyFiles
    case EOPNOTSUPP, ENOSYS: code = .unsupported
    default: code = .failed
    }
    return IOError(code, operation: operation, subject: subject, number: number, reason: text(number))
  }

  /// The system's words for an error number.
  static func text(_ number: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { room in
      guard let base = room.baseAddress, let words = mr_error_text(number, base, room.count) else {
        return "error \(number)"
      }
      return String(cString: words)
    }
  }

  /// Passes a wrapper's result on, or throws what its negative value says.
  @discardableResult
  static func check<Result: SignedInteger>(
    _ result: Result, _ operation: String, _ subject: @autoclosure () -> String
  ) throws(IOError) -> Result {
    if result < 0 { throw system(Int32(-result), operation, subject()) }
    return result
  }
}

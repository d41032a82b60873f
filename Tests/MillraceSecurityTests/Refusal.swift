// Refusal: how tests ask for the code of a refusal.

import MillraceSecurity
import Testing

/// The code with which `body` is refused; nil when it is not. Any other error is a failure of the test.
func refusal(sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void) -> AuthenticationError.Code?
{
  do {
    try body()
    return nil
  } catch let error as AuthenticationError {
    return error.code
  } catch {
    Issue.record(error, sourceLocation: sourceLocation)
    return nil
  }
}

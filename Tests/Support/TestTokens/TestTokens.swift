// TestTokens: keys and tokens for tests of servers, whose simulated clock begins 1,790,000,000 s after 1970.
//
// Made with OpenSSL's Ed25519 (`openssl genpkey`, `openssl pkeyutl -sign -rawin`); the private keys are gone. All tokens have the
// issuer https://issuer.example and the audience millrace.

/// Golden tokens.
public enum TestTokens {
  /// A key file with the key `first`.
  public static let keys =
    #"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"first","x":"dbW739DxsoAcAIVTT0czcoJCGYhqo29UNk7mZBLc-sg"#
    + #""}]}"#
  /// A key file with the key `second` in its place.
  public static let nextKeys =
    #"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"second","x":"v_vxISgm4gVsvsrx2UsyJMTQbz1XVo6a1LsDz0OgEy"#
    + #"o"}]}"#
  /// Of alice, for 300 s.
  public static let alice =
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImZpcnN0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwi"
    + "YXVkIjoibWlsbHJhY2UiLCJzdWIiOiJhbGljZSIsImV4cCI6MTc5MDAwMDMwMH0.fRiN-aYcvDoiE_gz6sYOHZpPw1I1W_EFPQn4"
    + "wa7ywyQCtg2DYMJlPdQrKgySrXswPua2BUxkt_W6oobBrvmKAA"
  /// Of alice, for 600 s.
  public static let aliceLater =
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImZpcnN0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwi"
    + "YXVkIjoibWlsbHJhY2UiLCJzdWIiOiJhbGljZSIsImV4cCI6MTc5MDAwMDYwMH0.E2x-7wm9Zw5pLpt3e4XXDjhJp8d8rhMJym17"
    + "xmloBh1u748MVrytg7QlYj2DgWv8oh6jxSwbCzPrJRE2rORmBg"
  /// Of bob, for 300 s.
  public static let bob =
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImZpcnN0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwi"
    + "YXVkIjoibWlsbHJhY2UiLCJzdWIiOiJib2IiLCJleHAiOjE3OTAwMDAzMDB9.dzW9nBUL8C0Y2bxGJMMY3uB_9aG6X47o6XVeMuY"
    + "CygFkJrqt_fbjSPluBjAtbOr-JqcUfz8NmYw9O5NtCjesDQ"
  /// Of alice, expired before the clock began.
  public static let expired =
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImZpcnN0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwi"
    + "YXVkIjoibWlsbHJhY2UiLCJzdWIiOiJhbGljZSIsImV4cCI6MTc4OTk5OTk0MH0.1CVCr9lhEi8YInOw1kktJ6tZUok8CBvkCnhx"
    + "IAbk9eE2J7S8Y_1Unly_7uz4Upr5kapIu5k-qrdxVxfkPLbbDA"
  /// Of alice, for 300 s, signed with the key `second`.
  public static let aliceBySecond =
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6InNlY29uZCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiw"
    + "iYXVkIjoibWlsbHJhY2UiLCJzdWIiOiJhbGljZSIsImV4cCI6MTc5MDAwMDMwMH0.NOrngY9RJz0Vd4eiW_dozZUf_c4AH-oUJTo"
    + "I6i6XMgs8L3aTAhWtPHQ8IT5WJsMoaD3cCachBneZnXUiij4qAA"
}

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// Values of macros that Swift does not see.

/// What every context of ours is set to: no renegotiation, no compression, no resumption by tickets, and among equal
/// clients the server's order of suites, but ChaCha20 first for those who ask for it first (they have no AES in hardware).
static inline uint64_t mr_ssl_options(void) {
  return SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
         SSL_OP_PRIORITIZE_CHACHA;
}

/// The reason in an error code, without the library that it is of.
static inline int mr_err_reason(unsigned long code) { return ERR_GET_REASON(code); }

/// A new key on the curve P-256.
static inline EVP_PKEY *mr_make_ec_key(void) { return EVP_EC_gen("P-256"); }
// A public key of one kind from its parts; NULL when they are none. Here, because a builder of parameters keeps the addresses of
// all names and values that it was given, which Swift would have to pin one by one.
static inline EVP_PKEY *mr_public_key(const char *kind, OSSL_PARAM_BLD *builder) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
  OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
  EVP_PKEY *key = NULL;
  if (context && parameters && EVP_PKEY_fromdata_init(context) == 1)
    EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters);
  OSSL_PARAM_free(parameters);
  EVP_PKEY_CTX_free(context);
  return key;
}

static inline EVP_PKEY *mr_rsa_public_key(const unsigned char *n, int n_size, const unsigned char *e, int e_size) {
  OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
  BIGNUM *modulus = BN_bin2bn(n, n_size, NULL), *exponent = BN_bin2bn(e, e_size, NULL);
  EVP_PKEY *key = NULL;
  if (builder && modulus && exponent && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
      OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
    key = mr_public_key("RSA", builder);
  BN_free(exponent);
  BN_free(modulus);
  OSSL_PARAM_BLD_free(builder);
  return key;
}

static inline EVP_PKEY *mr_ec_public_key(const char *curve, const unsigned char *point, size_t size) {
  OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
  EVP_PKEY *key = NULL;
  if (builder && OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) == 1 &&
      OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, size) == 1)
    key = mr_public_key("EC", builder);
  OSSL_PARAM_BLD_free(builder);
  return key;
}

// AES-256-GCM, one message a call. A context has a key of 32 bytes and goes one way; one thread at a time may use it.

static inline EVP_CIPHER_CTX *mr_gcm_context(const unsigned char *key, int encrypts) {
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  if (context && EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, NULL, encrypts) == 1) return context;
  EVP_CIPHER_CTX_free(context);
  return NULL;
}

/// Encrypts `size` bytes: nonce of 12, tag of 16 bytes. 1 when it is done.
static inline int mr_gcm_seal(EVP_CIPHER_CTX *context, const unsigned char *nonce, const unsigned char *besides,
                              int besides_size, const unsigned char *in, int size, unsigned char *out,
                              unsigned char *tag) {
  int done = 0;
  return EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) == 1 &&
         EVP_CipherUpdate(context, NULL, &done, besides, besides_size) == 1 &&
         EVP_CipherUpdate(context, out, &done, in, size) == 1 &&
         EVP_CipherFinal_ex(context, out + done, &done) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag) == 1;
}

/// Decrypts; 1 when the tag is right. Otherwise `out` is zeros.
static inline int mr_gcm_open(EVP_CIPHER_CTX *context, const unsigned char *nonce, const unsigned char *besides,
                              int besides_size, const unsigned char *in, int size, unsigned char *out,
                              const unsigned char *tag) {
  int done = 0;
  if (EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) == 1 &&
      EVP_CipherUpdate(context, NULL, &done, besides, besides_size) == 1 &&
      EVP_CipherUpdate(context, out, &done, in, size) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag) == 1 &&
      EVP_CipherFinal_ex(context, out + done, &done) == 1)
    return 1;
  // What others find in this thread's queue of errors must be theirs.
  ERR_clear_error();
  OPENSSL_cleanse(out, (size_t)size);
  return 0;
}

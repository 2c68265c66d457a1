//! Preloaded into wrk and h2load, which cannot present a client certificate: every SSL_CTX_new() gets
//! one from PEER_CERT and PEER_KEY, one cipher suite and group (so that all proxies do the same
//! cryptography), and no resumption. Loaded by load.py; it must never be preloaded into a proxy.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method) {
    SSL_CTX *(*original)(const SSL_METHOD *) = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, "SSL_CTX_new");
    SSL_CTX *context = original(method);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_chain_file(context, getenv("PEER_CERT")) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, getenv("PEER_KEY"), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1) {
        fputs("shim: PEER_CERT and PEER_KEY must name a PEM chain and its key\n", stderr);
        exit(1);
    }
    return context;
}

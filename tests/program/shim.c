/* Preloaded into h2load, which cannot present a client certificate: every SSL_CTX_new() gets the one that
 * CLIENT_CERT and CLIENT_KEY name. Declared by hand, so that no headers of OpenSSL need be installed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

int SSL_CTX_use_certificate_chain_file(void *context, const char *file);
int SSL_CTX_use_PrivateKey_file(void *context, const char *file, int type);

void *SSL_CTX_new(const void *method) {
    void *(*original)(const void *) = (void *(*)(const void *))dlsym(RTLD_NEXT, "SSL_CTX_new");
    void *context = original(method);
    if (SSL_CTX_use_certificate_chain_file(context, getenv("CLIENT_CERT")) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, getenv("CLIENT_KEY"), 1 /* PEM */) != 1) abort();
    return context;
}

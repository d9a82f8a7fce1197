/*
 * The life of an image over a host that is a few pages of C: files in memory, and a queue of
 * answers that the loop gives one by one, newest first. Each story says what must not happen.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fvd.h>

#define CHECK(what)                                                         \
    do {                                                                    \
        if (!(what)) {                                                      \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what,   \
                    fvd_get_error_msg());                                   \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

struct file {
    char name[64];
    unsigned char *bytes;
    uint64_t length;
};

struct answer {
    struct fvd_image *image;
    uint64_t token;
    int64_t ret;
};

struct host {
    struct file files[4];
    int nfiles;
    struct answer answers[256];
    int nanswers;
    bool inline_answers; /* answer inside submit */
    int open_files;
    void (*deferred)(void *arg);
    void *deferred_arg;
};

static void set_length(struct file *file, uint64_t length)
{
    file->bytes = realloc(file->bytes, length + 1);
    CHECK(file->bytes != NULL);
    if (length > file->length) {
        memset(file->bytes + file->length, 0, length - file->length);
    }
    file->length = length;
}

static int host_open(void *opaque, const struct fvd_file_request *request, struct fvd_file *out)
{
    struct host *host = opaque;
    int i = 0;

    while (i < host->nfiles && strcmp(host->files[i].name, request->name) != 0) {
        i++;
    }
    if (i == host->nfiles) {
        if (request->access != FVD_ACCESS_CREATE) {
            return -ENOENT;
        }
        CHECK(host->nfiles < 4);
        snprintf(host->files[host->nfiles++].name, 64, "%s", request->name);
    }
    if (request->access == FVD_ACCESS_CREATE) {
        set_length(&host->files[i], 0);
    }
    host->open_files++;
    out->file = &host->files[i];
    out->length = host->files[i].length;
    return 0;
}

static void host_close(void *opaque, void *file)
{
    (void)file;
    ((struct host *)opaque)->open_files--;
}

static int64_t transfer(struct file *file, const struct fvd_io *io)
{
    uint64_t at = io->offset;

    for (int i = 0; i < io->iovcnt; i++) {
        size_t n = io->iov[i].iov_len;
        if (io->kind == FVD_IO_WRITE) {
            if (at + n > file->length) {
                set_length(file, at + n);
            }
            memcpy(file->bytes + at, io->iov[i].iov_base, n);
        } else {
            if (at >= file->length) {
                break;
            }
            n = n < file->length - at ? n : file->length - at;
            memcpy(io->iov[i].iov_base, file->bytes + at, n);
        }
        at += n;
    }
    return (int64_t)(at - io->offset);
}

static int host_submit(void *opaque, const struct fvd_io *io)
{
    struct host *host = opaque;
    int64_t ret = 0;

    switch (io->kind) {
    case FVD_IO_READ:
    case FVD_IO_WRITE:
        ret = transfer(io->file, io);
        break;
    case FVD_IO_FLUSH:
        break;
    case FVD_IO_TRUNCATE:
        set_length(io->file, io->len);
        break;
    default:
        return -EOPNOTSUPP;
    }
    if (host->inline_answers) {
        fvd_io_done(io->image, io->token, ret);
        return 0;
    }
    CHECK(host->nanswers < 256);
    host->answers[host->nanswers++] = (struct answer){io->image, io->token, ret};
    return 0;
}

static void host_defer(void *opaque, void (*call)(void *arg), void *arg)
{
    struct host *host = opaque;

    CHECK(host->deferred == NULL);
    host->deferred = call;
    host->deferred_arg = arg;
}

static int host_poll(void *opaque, int64_t timeout_ns)
{
    struct host *host = opaque;

    (void)timeout_ns;
    if (host->deferred != NULL) {
        void (*call)(void *) = host->deferred;
        host->deferred = NULL;
        call(host->deferred_arg);
        return 1;
    }
    if (host->nanswers == 0) {
        return 0;
    }
    struct answer answer = host->answers[--host->nanswers];
    fvd_io_done(answer.image, answer.token, answer.ret);
    return 1;
}

static const struct fvd_host_ops OPS = {
    .struct_size = sizeof(struct fvd_host_ops),
    .open = host_open,
    .close = host_close,
    .submit = host_submit,
    .poll = host_poll,
    .defer = host_defer,
};

static struct fvd_image *open_image(struct host *host, const struct fvd_host_ops *ops)
{
    struct fvd_image *image = NULL;

    CHECK(fvd_open(ops, host, "disk", NULL, &image) == 0);
    return image;
}

static void free_host(struct host *host)
{
    CHECK(host->open_files == 0);
    for (int i = 0; i < host->nfiles; i++) {
        free(host->files[i].bytes);
    }
}

/* What a callback saw. */
struct seen {
    struct fvd_image *image;
    int calls;
    int ret;
    bool close;
};

static void note(void *opaque, int ret)
{
    struct seen *seen = opaque;

    seen->calls++;
    seen->ret = ret;
    if (seen->close) {
        CHECK(fvd_close(seen->image) == 0);
    }
}

static void wait_for(struct fvd_image *image, struct seen *seen)
{
    while (seen->calls == 0) {
        CHECK(fvd_poll(image, -1) == 1);
    }
    CHECK(seen->calls == 1);
}

static void written_read_and_found_again(const char *options)
{
    struct host host = {0};
    unsigned char out[8192], in[8192];
    struct iovec pieces[2] = {{out, 1000}, {out + 1000, 7192}};
    struct fvd_iovector whole = {&(struct iovec){in, 8192}, 1, 0, 8192};
    struct seen seen = {0};

    memset(out, 0x5a, sizeof out);
    CHECK(fvd_create(&OPS, &host, "disk", options) == 0);
    struct fvd_image *image = open_image(&host, &OPS);
    CHECK(fvd_getlength(image) == 1 << 20);
    CHECK(fvd_has_zero_init(image) == 1);
    CHECK(fvd_aio_pwritev(image, 4096, pieces, 2, 0, note, &seen) != NULL);
    CHECK(seen.calls == 0);
    wait_for(image, &seen);
    CHECK(seen.ret == 0);

    seen = (struct seen){0};
    CHECK(fvd_aio_flush(image, note, &seen) != NULL);
    wait_for(image, &seen);
    CHECK(seen.ret == 0 && fvd_close(image) == 0);

    image = open_image(&host, &OPS);
    seen = (struct seen){0};
    CHECK(fvd_aio_readv(image, 8, &whole, 16, note, &seen) != NULL);
    CHECK(seen.calls == 0);
    wait_for(image, &seen);
    CHECK(seen.ret == 0 && memcmp(in, out, sizeof in) == 0);

    seen = (struct seen){0};
    CHECK(fvd_aio_readv(image, 1000, &whole, 16, note, &seen) != NULL);
    wait_for(image, &seen);
    CHECK(seen.ret == 0 && in[0] == 0 && in[8191] == 0);
    CHECK(fvd_close(image) == 0);
    free_host(&host);
}

/* A host that answers inside submit is heard only after the call that submitted has returned. */
static void an_answer_on_the_spot_does_not_call_back_on_the_spot(void)
{
    struct host host = {.inline_answers = true};
    unsigned char bytes[512] = {1};
    struct iovec iov = {bytes, 512};
    struct seen seen = {0};

    CHECK(fvd_create(&OPS, &host, "disk", "size=1M,compact_image=on") == 0);
    struct fvd_image *image = open_image(&host, &OPS);
    for (int i = 0; i < 2; i++) { /* the long way, then the fast path */
        seen = (struct seen){0};
        CHECK(fvd_aio_pwritev(image, 0, &iov, 1, 0, note, &seen) != NULL);
        CHECK(seen.calls == 0 && host.deferred != NULL);
        while (host.deferred != NULL) {
            host_poll(&host, 0);
        }
        CHECK(seen.calls == 1 && seen.ret == 0);
    }
    CHECK(fvd_close(image) == 0);
    free_host(&host);
}

/* The memory of a cancelled request is the caller's again, and a late cancel is harmless. */
static void a_cancelled_request_does_not_call_back(void)
{
    struct host host = {0};
    unsigned char bytes[512] = {1};
    struct iovec iov = {bytes, 512};
    struct seen seen = {0};

    CHECK(fvd_create(&OPS, &host, "disk", "size=1M") == 0);
    struct fvd_image *image = open_image(&host, &OPS);
    struct fvd_aiocb *request = fvd_aio_pwritev(image, 0, &iov, 1, 0, note, &seen);
    CHECK(request != NULL && host.nanswers == 1);
    CHECK(fvd_aio_cancel(image, request) == 1);
    CHECK(host.nanswers == 0 && seen.calls == 0);
    CHECK(fvd_aio_cancel(image, request) == 0);
    CHECK(fvd_aio_cancel_async(image, request) == 0);
    CHECK(fvd_close(image) == 0 && seen.calls == 0);
    free_host(&host);
}

/* The image is gone when the callback that closed it has returned. */
static void a_callback_may_close(void)
{
    struct host host = {0};
    unsigned char bytes[512] = {1};
    struct iovec iov = {bytes, 512};

    CHECK(fvd_create(&OPS, &host, "disk", "size=1M,compact_image=on") == 0);
    struct fvd_image *image = open_image(&host, &OPS);
    struct seen seen = {.image = image, .close = true};
    CHECK(fvd_aio_pwritev(image, 0, &iov, 1, FVD_REQ_FUA, note, &seen) != NULL);
    while (seen.calls == 0) {
        host_poll(&host, -1);
    }
    CHECK(seen.ret == 0 && host.open_files == 0);
    while (host.deferred != NULL) {
        host_poll(&host, 0);
    }
    CHECK(fvd_close(open_image(&host, &OPS)) == 0);
    free_host(&host);
}

/* Close ends what is under way, and tells of it. */
static void a_close_waits_for_requests(void)
{
    struct host host = {0};
    unsigned char bytes[4][512] = {{1}, {2}, {3}, {4}};
    struct seen seen = {0};

    CHECK(fvd_create(&OPS, &host, "disk", "size=1M,compact_image=on") == 0);
    struct fvd_image *image = open_image(&host, &OPS);
    for (int i = 0; i < 4; i++) {
        struct iovec *iov = &(struct iovec){bytes[i], 512};
        struct fvd_iovector qiov = {iov, 1, 0, 512};
        seen.calls = 0;
        CHECK(fvd_aio_writev(image, i, &qiov, 1, note, &seen) != NULL);
        wait_for(image, &seen);
    }
    struct iovec iovs[4];
    seen.calls = 0;
    for (int i = 0; i < 4; i++) {
        iovs[i] = (struct iovec){bytes[i], 512};
        CHECK(fvd_aio_pwritev(image, 512 * (uint64_t)i, &iovs[i], 1, 0, note, &seen) != NULL);
    }
    CHECK(fvd_close(image) == 0 && seen.calls == 4 && seen.ret == 0);
    free_host(&host);
}

/* Without poll, what has to wait fails with -EBUSY, and the rest works. */
static void a_host_without_poll_is_told_what_it_cannot_have(void)
{
    struct host host = {.inline_answers = true};
    struct fvd_host_ops ops = OPS;
    unsigned char bytes[512] = {1};
    struct iovec iov = {bytes, 512};
    struct seen seen = {0};

    ops.poll = NULL;
    CHECK(fvd_create(&ops, &host, "disk", "size=1M") == 0);
    struct fvd_image *image = open_image(&host, &ops);
    host.inline_answers = false;
    struct fvd_aiocb *request = fvd_aio_pwritev(image, 0, &iov, 1, 0, note, &seen);
    CHECK(request != NULL);
    CHECK(fvd_aio_cancel(image, request) == -EBUSY);
    CHECK(fvd_close(image) == -EBUSY);
    struct answer answer = host.answers[--host.nanswers];
    fvd_io_done(answer.image, answer.token, answer.ret);
    CHECK(seen.calls == 1 && seen.ret == 0);
    fvd_io_done(answer.image, answer.token, answer.ret); /* doubled: no effect */
    CHECK(seen.calls == 1);
    host.inline_answers = true;
    CHECK(fvd_close(image) == 0);

    /* An open that cannot wait fails, and the answer that comes later does no harm. */
    host.inline_answers = false;
    image = NULL;
    CHECK(fvd_open(&ops, &host, "disk", NULL, &image) < 0 && image == NULL);
    CHECK(host.nanswers == 1);
    answer = host.answers[--host.nanswers];
    fvd_io_done(answer.image, answer.token, answer.ret);
    free_host(&host);
}

/* Neither poll nor defer: each answer is taken when it comes, whatever waits beside it. */
static void a_host_that_only_answers_is_enough(void)
{
    struct host host = {.inline_answers = true};
    struct fvd_host_ops ops = OPS;
    unsigned char bytes[512] = {1};
    struct iovec iov = {bytes, 512};
    struct seen fast = {0}, slow = {0};

    ops.poll = NULL;
    ops.defer = NULL;
    CHECK(fvd_create(&ops, &host, "disk", "size=1M,compact_image=on") == 0);
    struct fvd_image *image = open_image(&host, &ops);
    CHECK(fvd_aio_preadv(image, 0, &iov, 1, 0, note, &fast) != NULL); /* zeros: no I/O */
    CHECK(fast.calls == 0);
    host.inline_answers = false;
    CHECK(fvd_aio_pwritev(image, 0, &iov, 1, 0, note, &slow) != NULL);
    while (host.nanswers > 0) {
        struct answer answer = host.answers[--host.nanswers];
        fvd_io_done(answer.image, answer.token, answer.ret);
    }
    CHECK(fast.calls == 1 && slow.calls == 1 && slow.ret == 0);
    host.inline_answers = true;
    CHECK(fvd_close(image) == 0);
    free_host(&host);
}

static void nonsense_is_refused_with_a_message(void)
{
    struct host host = {0};
    struct fvd_image *image = NULL;
    struct fvd_host_ops small = OPS;
    unsigned char bytes[512];
    struct iovec iov = {bytes, 512};
    struct seen seen = {0};

    CHECK(fvd_create(NULL, &host, "disk", "size=1M") == -EINVAL);
    small.struct_size = sizeof(size_t);
    CHECK(fvd_create(&small, &host, "disk", "size=1M") == -EINVAL);
    CHECK(strstr(fvd_get_error_msg(), "struct_size") != NULL);
    CHECK(fvd_create(&OPS, &host, NULL, "size=1M") == -EINVAL);
    CHECK(fvd_create(&OPS, &host, "disk", "size=1M,colour=red") == -EINVAL);
    CHECK(strstr(fvd_get_error_msg(), "colour") != NULL);
    CHECK(fvd_open(&OPS, &host, "absent", NULL, &image) == -ENOENT && image == NULL);
    CHECK(strstr(fvd_get_error_msg(), "absent") != NULL);
    CHECK(fvd_create(&OPS, &host, "disk", "size=1M") == 0);
    CHECK(fvd_open(&OPS, &host, "disk", "cache=sometimes", &image) == -EINVAL);
    CHECK(fvd_update(&OPS, &host, "disk", "size=2M") == 0);
    image = open_image(&host, &OPS);
    CHECK(fvd_getlength(image) == 2 << 20);
    CHECK(fvd_aio_preadv(image, 1, &iov, 1, 0, note, &seen) == NULL);
    CHECK(fvd_aio_preadv(image, 0, NULL, 1, 0, note, &seen) == NULL);
    CHECK(fvd_aio_preadv(image, 0, &iov, -1, 0, note, &seen) == NULL);
    CHECK(fvd_aio_preadv(image, 0, &iov, 1, 8, note, &seen) == NULL);
    CHECK(fvd_aio_preadv(image, 0, &iov, 1, 0, NULL, &seen) == NULL);
    CHECK(fvd_aio_preadv(image, 2 << 20, &iov, 1, 0, note, &seen) == NULL);
    CHECK(fvd_aio_readv(image, -1, NULL, 1, note, &seen) == NULL);
    CHECK(fvd_aio_flush(NULL, note, &seen) == NULL);
    CHECK(fvd_getlength(NULL) == 0);
    CHECK(fvd_close(NULL) == 0 && fvd_close(image) == 0 && seen.calls == 0);
    free_host(&host);
}

static void options_can_be_listed(void)
{
    struct fvd_option option = {.struct_size = sizeof option};
    int found = 0, i = 0;

    for (; fvd_get_option(FVD_OPTIONS_OPEN, i, &option) == 1; i++) {
        found += strcmp(option.name, "cache") == 0 && strcmp(option.default_value, "writeback") == 0
                 && strstr(option.kind, "writethrough") != NULL && option.help[0] != '\0';
    }
    CHECK(found == 1 && i > 3);
    CHECK(fvd_get_option(3, 0, &option) == -EINVAL);
    CHECK(fvd_get_option(FVD_OPTIONS_CREATE, 0, NULL) == -EINVAL);
}

int main(void)
{
    written_read_and_found_again("size=1M");
    written_read_and_found_again("size=1M,compact_image=on,chunk_size=8192");
    an_answer_on_the_spot_does_not_call_back_on_the_spot();
    a_cancelled_request_does_not_call_back();
    a_callback_may_close();
    a_close_waits_for_requests();
    a_host_without_poll_is_told_what_it_cannot_have();
    a_host_that_only_answers_is_enough();
    nonsense_is_refused_with_a_message();
    options_can_be_listed();
    return 0;
}

/* Writes a trace that rosetta reads; C99, a little-endian machine. `cc -std=c99 write_trace.c`
   A runtime calls trace_stage after each stage; main does so with what stands on its standard input. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { FILE *head, *data; uint64_t end; } Trace;

static Trace trace_open(const char *facts) { /* facts: JSON, which stands in a JSON string */
    Trace t = {tmpfile(), tmpfile(), 0};
    fputs("{\"__metadata__\":{\"rosetta\":\"", t.head);
    for (; *facts; facts++) fprintf(t.head, *facts == '"' || *facts == '\\' ? "\\%c" : "%c", *facts);
    fputs("\"}", t.head);
    return t;
}

static void trace_stage(Trace *t, const char *name, int count, const uint64_t *dims, const float *values) {
    uint64_t numbers = 1, start = t->end;
    fprintf(t->head, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    for (int i = 0; i < count; numbers *= dims[i++]) fprintf(t->head, "%s%" PRIu64, i ? "," : "", dims[i]);
    t->end += 4 * numbers;
    fprintf(t->head, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", start, t->end);
    fwrite(values, 4, numbers, t->data);
}

static void copy(FILE *from, FILE *to) {
    char part[1 << 16];
    rewind(from);
    for (size_t n; (n = fread(part, 1, sizeof part, from));) fwrite(part, 1, n, to);
    fclose(from);
}

static int trace_close(Trace *t, const char *path) {
    FILE *out = fopen(path, "wb");
    if (!out) return 1;
    fputc('}', t->head);
    while (ftell(t->head) % 8) fputc(' ', t->head);
    uint64_t length = (uint64_t)ftell(t->head);
    fwrite(&length, 8, 1, out);
    copy(t->head, out);
    copy(t->data, out);
    return ferror(out) | fclose(out);
}

int main(int argc, char **argv) { /* write_trace OUT.safetensors FACTS < stages: "NAME DIM DIM …\n", then float32s */
    char line[400], *word;
    if (argc != 3) return 2;
    Trace t = trace_open(argv[2]);
    while (fgets(line, sizeof line, stdin)) {
        uint64_t dims[8], numbers = 1; int count = 0;
        char *name = strtok(line, " \n");
        while (count < 8 && (word = strtok(NULL, " \n"))) numbers *= dims[count++] = strtoull(word, NULL, 10);
        float *values = malloc(4 * numbers);
        if (fread(values, 4, numbers, stdin) != numbers) return 1;
        trace_stage(&t, name, count, dims, values);
        free(values);
    }
    return trace_close(&t, argv[1]);
}

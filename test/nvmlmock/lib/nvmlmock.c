// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// A libnvidia-ml.so.1 that has the GPUs that a file describes. It exports just the functions that the node agent and,
// for GPUs that are not cut into instances, the NVIDIA container toolkit call, and reads the file again whenever it was replaced, so that a test changes the hardware under a running process. The
// file is named by the environment variable BERTH_NVML_STATE; without a file there is no driver. Package nvmlmock
// writes it. Each line is a kind, positional words, and key=value words; "name=" is last and runs to the end:
//
//   driver VERSION
//   return CODE                                       every call returns CODE
//   clock SECONDS                                     by how much the clock that stamps samples is wrong
//   gpu UUID BUSID CC key=value... name=NAME          total reserved used mig pending lost handle memory processes
//                                                     utilization ecc remap action
//   mig UUID PARENT key=value... name=NAME            total reserved used memory
//   proc DEVICE PID key=value...                      memory type (0 compute, 1 graphics, 2 MPS) util
//   link UUID UUID LEVEL                              0 NVLink, 1 PCIe switch
//   event NUMBER UUID TYPE DATA                       delivered once, in the order of NUMBER

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#define EXPORT __attribute__((visibility("default")))

// Return codes and structures of the NVML ABI.
enum {
  OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
};
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } process_info;
typedef struct { unsigned pid; unsigned long long time; unsigned sm, mem, enc, dec; } utilization_sample;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_info;
typedef struct { void *device; unsigned long long type, data; unsigned gi, ci; } event_data;
typedef struct {
  unsigned field, scope; long long timestamp, latency; int type; int ret; unsigned long long value;
} field_value;

enum { MAX_DEVICES = 256, MAX_PROCS = 8192, MAX_LINKS = 4096, MAX_EVENTS = 256, MAX_FILE = 4 << 20, ID = 96 };

// A handle stays valid for the life of the process; what it stands for is looked up in the newest state.
typedef struct { char uuid[ID]; } handle;
typedef struct {
  char uuid[ID], parent[ID], bus_id[32], name[96];
  int cc_major, cc_minor;
  long long total, reserved, used;
  long long mig, pending, lost, handle_ret, memory_ret, processes_ret, utilization_ret, ecc, remap, action;
} device;
typedef struct { char device[ID]; long long pid, memory, type, util; } process;
typedef struct { char a[ID], b[ID]; int level; } gpu_link;
typedef struct { long long number; char uuid[ID]; unsigned long long type, data; } gpu_event;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static handle handles[MAX_DEVICES];
static device devices[MAX_DEVICES];
static process procs[MAX_PROCS];
static gpu_link links[MAX_LINKS];
static gpu_event events[MAX_EVENTS];
static int n_devices, n_procs, n_links, n_events, n_init;
static char driver[80];
static int every_ret;
static long long clock_offset;
static int present;
static long long delivered;
static struct stat loaded;

static void copy(char *to, const char *from, size_t size) { snprintf(to, size, "%s", from ? from : ""); }

static void number(const char *word, const char *key, long long *v) {
  size_t n = strlen(key);
  if (strncmp(word, key, n) == 0 && word[n] == '=') *v = strtoll(word + n + 1, NULL, 10);
}

static void parse_device(char *kind, char **rest, char *name) {
  if (n_devices == MAX_DEVICES) return;
  device *d = &devices[n_devices++];
  memset(d, 0, sizeof *d);
  d->action = -1;
  copy(d->uuid, strtok_r(NULL, " ", rest), sizeof d->uuid);
  if (strcmp(kind, "gpu") == 0) {
    copy(d->bus_id, strtok_r(NULL, " ", rest), sizeof d->bus_id);
    char *cc = strtok_r(NULL, " ", rest);
    if (cc) sscanf(cc, "%d.%d", &d->cc_major, &d->cc_minor);
  } else {
    copy(d->parent, strtok_r(NULL, " ", rest), sizeof d->parent);
  }
  copy(d->name, name, sizeof d->name);
  for (char *w; (w = strtok_r(NULL, " ", rest));) {
    number(w, "total", &d->total);
    number(w, "reserved", &d->reserved);
    number(w, "used", &d->used);
    number(w, "mig", &d->mig);
    number(w, "pending", &d->pending);
    number(w, "lost", &d->lost);
    number(w, "handle", &d->handle_ret);
    number(w, "memory", &d->memory_ret);
    number(w, "processes", &d->processes_ret);
    number(w, "utilization", &d->utilization_ret);
    number(w, "ecc", &d->ecc);
    number(w, "remap", &d->remap);
    number(w, "action", &d->action);
  }
}

static void parse_line(char *line) {
  char *name = strstr(line, " name=");
  if (name) {
    *name = 0;
    name += strlen(" name=");
  }
  char *rest, *kind = strtok_r(line, " ", &rest);
  if (!kind) return;
  if (strcmp(kind, "driver") == 0) {
    copy(driver, strtok_r(NULL, " ", &rest), sizeof driver);
  } else if (strcmp(kind, "return") == 0) {
    char *w = strtok_r(NULL, " ", &rest);
    if (w) every_ret = atoi(w);
  } else if (strcmp(kind, "clock") == 0) {
    char *w = strtok_r(NULL, " ", &rest);
    if (w) clock_offset = atoll(w);
  } else if (strcmp(kind, "gpu") == 0 || strcmp(kind, "mig") == 0) {
    parse_device(kind, &rest, name);
  } else if (strcmp(kind, "proc") == 0 && n_procs < MAX_PROCS) {
    process *p = &procs[n_procs++];
    memset(p, 0, sizeof *p);
    copy(p->device, strtok_r(NULL, " ", &rest), sizeof p->device);
    char *w = strtok_r(NULL, " ", &rest);
    if (w) p->pid = strtoll(w, NULL, 10);
    while ((w = strtok_r(NULL, " ", &rest))) {
      number(w, "memory", &p->memory);
      number(w, "type", &p->type);
      number(w, "util", &p->util);
    }
  } else if (strcmp(kind, "link") == 0 && n_links < MAX_LINKS) {
    gpu_link *l = &links[n_links++];
    copy(l->a, strtok_r(NULL, " ", &rest), sizeof l->a);
    copy(l->b, strtok_r(NULL, " ", &rest), sizeof l->b);
    char *w = strtok_r(NULL, " ", &rest);
    l->level = w ? atoi(w) : 0;
  } else if (strcmp(kind, "event") == 0 && n_events < MAX_EVENTS) {
    gpu_event *e = &events[n_events++];
    char *w = strtok_r(NULL, " ", &rest);
    e->number = w ? strtoll(w, NULL, 10) : 0;
    copy(e->uuid, strtok_r(NULL, " ", &rest), sizeof e->uuid);
    w = strtok_r(NULL, " ", &rest);
    e->type = w ? strtoull(w, NULL, 10) : 0;
    w = strtok_r(NULL, " ", &rest);
    e->data = w ? strtoull(w, NULL, 10) : 0;
  }
}

// refresh reads the state again if the file is another one than last time.
static void refresh(void) {
  const char *path = getenv("BERTH_NVML_STATE");
  struct stat s;
  if (!path || stat(path, &s) != 0) {
    present = 0;
    memset(&loaded, 0, sizeof loaded);
    return;
  }
  if (present && s.st_ino == loaded.st_ino && s.st_size == loaded.st_size &&
      s.st_mtim.tv_sec == loaded.st_mtim.tv_sec && s.st_mtim.tv_nsec == loaded.st_mtim.tv_nsec) return;
  FILE *f = fopen(path, "re");
  char *text = malloc(MAX_FILE + 1);
  if (f && text) {
    text[fread(text, 1, MAX_FILE, f)] = 0;
    n_devices = n_procs = n_links = n_events = every_ret = 0;
    clock_offset = 0;
    driver[0] = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) parse_line(line);
    present = 1;
    loaded = s;
  }
  free(text);
  if (f) fclose(f);
}

// enter begins every call: OK, or what the call returns at once.
static int enter(void) {
  pthread_mutex_lock(&mutex);
  refresh();
  if (!present) return DRIVER_NOT_LOADED;
  if (every_ret) return every_ret;
  return n_init ? OK : UNINITIALIZED;
}

static int leave(int ret) {
  pthread_mutex_unlock(&mutex);
  return ret;
}

#define ENTER() do { int ret_ = enter(); if (ret_) return leave(ret_); } while (0)

static device *find(const char *uuid) {
  for (int i = 0; i < n_devices; i++)
    if (strcmp(devices[i].uuid, uuid) == 0) return &devices[i];
  return NULL;
}

static void *handle_of(const char *uuid) {
  for (int i = 0; i < MAX_DEVICES; i++) {
    if (!handles[i].uuid[0]) copy(handles[i].uuid, uuid, ID);
    if (strcmp(handles[i].uuid, uuid) == 0) return &handles[i];
  }
  return NULL;
}

// of looks up the device of a handle. One that is no longer in the state, or lost, or whose GPU is, answers so.
static int of(void *h, device **d) {
  if (!h) return INVALID_ARGUMENT;
  *d = find(((handle *)h)->uuid);
  if (!*d || (*d)->lost) return GPU_IS_LOST;
  if ((*d)->parent[0]) {
    device *parent = find((*d)->parent);
    if (!parent || parent->lost) return GPU_IS_LOST;
  }
  return OK;
}

#define DEVICE(h) device *d = NULL; ENTER(); do { int ret_ = of(h, &d); if (ret_) return leave(ret_); } while (0)

EXPORT int nvmlInit_v2(void) {
  pthread_mutex_lock(&mutex);
  refresh();
  int ret = !present ? DRIVER_NOT_LOADED : every_ret;
  if (!ret) n_init++;
  return leave(ret);
}

EXPORT int nvmlShutdown(void) {
  pthread_mutex_lock(&mutex);
  int ret = n_init ? OK : UNINITIALIZED;
  if (n_init) n_init--;
  return leave(ret);
}

EXPORT const char *nvmlErrorString(int ret) { (void)ret; return "an error of the mock library"; }

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  ENTER();
  copy(version, driver, length);
  return leave(OK);
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
  ENTER();
  *count = 0;
  for (int i = 0; i < n_devices; i++) *count += !devices[i].parent[0];
  return leave(OK);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **h) {
  ENTER();
  for (int i = 0; i < n_devices; i++) {
    if (devices[i].parent[0] || index--) continue;
    if (devices[i].handle_ret) return leave((int)devices[i].handle_ret);
    *h = handle_of(devices[i].uuid);
    return leave(OK);
  }
  return leave(INVALID_ARGUMENT);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **h) {
  ENTER();
  for (int i = 0; i < n_devices; i++) {
    if (strcmp(devices[i].uuid, uuid) != 0) continue;
    *h = handle_of(devices[i].uuid);
    return leave(OK);
  }
  return leave(NOT_FOUND);
}

// The index is the minor number too: /dev/nvidia<index>.
static int index_of(const device *d, unsigned *index) {
  *index = 0;
  for (int i = 0; i < n_devices && &devices[i] != d; i++) *index += !devices[i].parent[0];
  return d->parent[0] ? INVALID_ARGUMENT : OK;
}

#ifdef MEMORY_LIMITS
// A driver that can limit the memory of a cgroup. What it is told is written down: UUID, cgroup, soft and hard limit.
typedef struct { const char *cgroup; unsigned long long soft, hard; } memory_limits;

EXPORT int nvmlDeviceSetMemoryLimits_v1(void *h, memory_limits *limits) {
  DEVICE(h);
  const char *path = getenv("BERTH_NVML_LIMITS");
  FILE *f = path ? fopen(path, "a") : NULL;
  if (!f) return leave(NOT_SUPPORTED);
  fprintf(f, "%s %s %llu %llu\n", d->uuid, limits->cgroup, limits->soft, limits->hard);
  return leave(fclose(f) == 0 ? OK : NOT_SUPPORTED);
}
#endif

EXPORT int nvmlDeviceGetIndex(void *h, unsigned *index) {
  DEVICE(h);
  return leave(index_of(d, index));
}

EXPORT int nvmlDeviceGetMinorNumber(void *h, unsigned *minor) {
  DEVICE(h);
  return leave(index_of(d, minor));
}

EXPORT int nvmlDeviceIsMigDeviceHandle(void *h, unsigned *is_mig) {
  DEVICE(h);
  *is_mig = d->parent[0] != 0;
  return leave(OK);
}

EXPORT int nvmlDeviceGetUUID(void *h, char *uuid, unsigned length) {
  DEVICE(h);
  copy(uuid, d->uuid, length);
  return leave(OK);
}

EXPORT int nvmlDeviceGetName(void *h, char *name, unsigned length) {
  DEVICE(h);
  copy(name, d->name, length);
  return leave(OK);
}

EXPORT int nvmlDeviceGetPciInfo_v3(void *h, pci_info *pci) {
  DEVICE(h);
  memset(pci, 0, sizeof *pci);
  copy(pci->bus_id, d->bus_id, sizeof pci->bus_id);
  sscanf(d->bus_id, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
  return leave(OK);
}

EXPORT int nvmlDeviceGetCudaComputeCapability(void *h, int *major, int *minor) {
  DEVICE(h);
  *major = d->cc_major;
  *minor = d->cc_minor;
  return leave(OK);
}

EXPORT int nvmlDeviceGetMemoryInfo(void *h, memory_v1 *m) {
  DEVICE(h);
  if (d->memory_ret) return leave((int)d->memory_ret);
  m->total = d->total;
  m->used = d->used + d->reserved;
  m->free = m->total - m->used;
  return leave(OK);
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(void *h, memory_v2 *m) {
  DEVICE(h);
  if (d->memory_ret) return leave((int)d->memory_ret);
  m->total = d->total;
  m->reserved = d->reserved;
  m->used = d->used;
  m->free = m->total - m->used - m->reserved;
  return leave(OK);
}

static int processes_of(void *h, int type, unsigned *count, process_info *infos) {
  DEVICE(h);
  if (d->processes_ret) return leave((int)d->processes_ret);
  unsigned n = 0, room = *count;
  for (int i = 0; i < n_procs; i++) {
    if (procs[i].type != type || strcmp(procs[i].device, d->uuid) != 0) continue;
    if (infos && n < room)
      infos[n] = (process_info){(unsigned)procs[i].pid, (unsigned long long)procs[i].memory, ~0u, ~0u};
    n++;
  }
  *count = n;
  return leave(n > room ? INSUFFICIENT_SIZE : OK);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, process_info *infos) {
  return processes_of(h, 0, count, infos);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *count, process_info *infos) {
  return processes_of(h, 1, count, infos);
}

EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *h, unsigned *count, process_info *infos) {
  return processes_of(h, 2, count, infos);
}

// A process whose util is not zero computes at this moment, and so has a sample of this moment.
EXPORT int nvmlDeviceGetProcessUtilization(void *h, utilization_sample *out, unsigned *count, unsigned long long since) {
  DEVICE(h);
  if (d->parent[0] || d->mig) return leave(NOT_SUPPORTED);
  if (d->utilization_ret) return leave((int)d->utilization_ret);
  struct timeval now;
  gettimeofday(&now, NULL);
  unsigned long long time = (now.tv_sec + clock_offset) * 1000000ULL + now.tv_usec;
  unsigned n = 0, room = out ? *count : 0;
  for (int i = 0; i < n_procs; i++) {
    if (!procs[i].util || time <= since || strcmp(procs[i].device, d->uuid) != 0) continue;
    if (n < room) out[n] = (utilization_sample){(unsigned)procs[i].pid, time, (unsigned)procs[i].util, 0, 0, 0};
    n++;
  }
  *count = n;
  if (n == 0) return leave(NOT_FOUND);
  return leave(n > room ? INSUFFICIENT_SIZE : OK);
}

EXPORT int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
  DEVICE(h);
  if (d->parent[0]) return leave(INVALID_ARGUMENT);
  *current = (unsigned)d->mig;
  *pending = (unsigned)d->pending;
  return leave(OK);
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *count) {
  DEVICE(h);
  *count = d->mig ? 7 : 0;
  return leave(OK);
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **mig) {
  DEVICE(h);
  for (int i = 0; i < n_devices && d->mig; i++) {
    if (strcmp(devices[i].parent, d->uuid) != 0 || index--) continue;
    *mig = handle_of(devices[i].uuid);
    return leave(OK);
  }
  return leave(NOT_FOUND);
}

EXPORT int nvmlDeviceGetTotalEccErrors(void *h, int error, int counter, unsigned long long *count) {
  (void)counter;
  DEVICE(h);
  *count = error == 1 ? (unsigned long long)d->ecc : 0;
  return leave(OK);
}

EXPORT int nvmlDeviceGetRemappedRows(void *h, unsigned *correctable, unsigned *uncorrectable, unsigned *pending,
                                     unsigned *failed) {
  DEVICE(h);
  *correctable = *uncorrectable = *pending = 0;
  *failed = d->remap != 0;
  return leave(OK);
}

// The only field is the recovery action, which drivers before R560 do not have.
EXPORT int nvmlDeviceGetFieldValues(void *h, int count, field_value *values) {
  DEVICE(h);
  for (int i = 0; i < count; i++) {
    values[i].ret = values[i].field == 230 && d->action >= 0 ? OK : NOT_SUPPORTED;
    values[i].type = 1;
    values[i].value = d->action >= 0 ? (unsigned long long)d->action : 0;
  }
  return leave(OK);
}

// linked returns the level of the link between two GPUs; -1 if there is none.
static int linked(const char *a, const char *b) {
  for (int i = 0; i < n_links; i++)
    if ((!strcmp(links[i].a, a) && !strcmp(links[i].b, b)) || (!strcmp(links[i].a, b) && !strcmp(links[i].b, a)))
      return links[i].level;
  return -1;
}

EXPORT int nvmlDeviceGetP2PStatus(void *h, void *peer, int caps, int *status) {
  (void)caps;
  DEVICE(h);
  *status = peer && linked(d->uuid, ((handle *)peer)->uuid) == 0 ? 0 : 5;
  return leave(OK);
}

EXPORT int nvmlDeviceGetTopologyCommonAncestor(void *h, void *peer, int *level) {
  DEVICE(h);
  *level = peer && linked(d->uuid, ((handle *)peer)->uuid) == 1 ? 10 : 50;
  return leave(OK);
}

// As with the real driver, a set gets the events that happen after it was made.
EXPORT int nvmlEventSetCreate(void **set) {
  ENTER();
  for (int i = 0; i < n_events; i++)
    if (events[i].number > delivered) delivered = events[i].number;
  *set = &delivered;
  return leave(OK);
}

EXPORT int nvmlEventSetFree(void *set) {
  (void)set;
  return OK;
}

EXPORT int nvmlDeviceGetSupportedEventTypes(void *h, unsigned long long *types) {
  DEVICE(h);
  *types = 2 | 8;
  return leave(OK);
}

EXPORT int nvmlDeviceRegisterEvents(void *h, unsigned long long types, void *set) {
  (void)types;
  (void)set;
  DEVICE(h);
  return leave(OK);
}

EXPORT int nvmlEventSetWait_v2(void *set, event_data *out, unsigned timeout) {
  (void)set;
  (void)timeout;
  ENTER();
  for (int i = 0; i < n_events; i++) {
    if (events[i].number <= delivered) continue;
    delivered = events[i].number;
    *out = (event_data){handle_of(events[i].uuid), events[i].type, events[i].data, ~0u, ~0u};
    return leave(OK);
  }
  return leave(TIMEOUT);
}

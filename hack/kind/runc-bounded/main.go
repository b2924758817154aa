// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command runc-bounded is an OCI runtime for machines whose root may not have every capability: it takes those that
// the machine lacks out of what it is asked to run, and then becomes runc, which would refuse them.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// names of the capabilities, by number: capabilities(7).
var names = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runc-bounded:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	bound, err := boundingSet(string(status))
	if err != nil {
		return err
	}
	if bundle := option(args, "--bundle", "-b"); bundle != "" {
		if err := edit(bundle+"/config.json", bound, "process"); err != nil {
			return err
		}
	}
	if process := option(args, "--process", "-p"); process != "" {
		if err := edit(process, bound); err != nil {
			return err
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// boundingSet reads the capabilities that a process of this machine can have.
func boundingSet(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, fmt.Errorf("/proc/self/status does not say the bounding set")
}

// option returns the value of an option in either of runc's forms, "--name value" and "--name=value".
func option(args []string, flags ...string) string {
	for i, arg := range args {
		for _, name := range flags {
			if value, ok := strings.CutPrefix(arg, name+"="); ok {
				return value
			}
			if arg == name && i+1 < len(args) {
				return args[i+1]
			}
		}
	}
	return ""
}

// edit bounds the capabilities of the process that a file describes, which is at a path below the file's root.
func edit(path string, bound uint64, below ...string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // limits do not fit a float
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := spec
	for _, key := range below {
		process, _ = process[key].(map[string]any)
	}
	capabilities, ok := process["capabilities"].(map[string]any)
	if !ok {
		return nil // none were asked for
	}
	for set, list := range capabilities {
		if list, ok := list.([]any); ok {
			capabilities[set] = slices.DeleteFunc(list, func(name any) bool { return lacks(bound, name) })
		}
	}
	if content, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// lacks tells whether the machine cannot give a capability; of one that it does not know, runc decides.
func lacks(bound uint64, name any) bool {
	text, _ := name.(string)
	number := slices.Index(names, text)
	return number >= 0 && bound&(1<<number) == 0
}

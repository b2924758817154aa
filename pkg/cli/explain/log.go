// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/plugin/history"
)

// maxLine bounds a line of a log, in bytes.
const maxLine = 1 << 20

// OfLog returns what a log of a scheduler tells of decisions about a pod: as kubectl logs --timestamps gives it, in either
// of the formats that --logging-format chooses.
func OfLog(log io.Reader, namespace, name string) (entries []Entry, err error) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		stamp, line, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || !strings.Contains(line, name) {
			continue
		}
		if text, ok := decisionOf(line, namespace, name); ok {
			entries = append(entries, Entry{Time: metav1.NewTime(at), Source: SourceLog, Text: text})
		}
	}
	return entries, lines.Err()
}

// textLine is a line of klog's text format: a header, the quoted message, and the pairs.
var textLine = regexp.MustCompile(`^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\]]*\] ("(?:[^"\\]|\\.)*")((?: .*)?)$`)

// decisionOf returns the message and the pairs of a line about a pod.
func decisionOf(line, namespace, name string) (text string, ok bool) {
	if strings.HasPrefix(line, "{") {
		return jsonDecisionOf(line, namespace, name)
	}
	match := textLine.FindStringSubmatch(line)
	if match == nil {
		return "", false
	}
	message, err := strconv.Unquote(match[1])
	if err != nil || !history.Messages.Has(message) {
		return "", false
	}
	pairs, isPod := cutPair(match[2]+" ", "pod", namespace, name)
	_, isPreemptor := cutPair(match[2]+" ", "preemptor", namespace, name)
	if !isPod && !isPreemptor {
		return "", false
	}
	return message + ":" + strings.TrimSuffix(pairs, " "), true
}

// cutPair takes a pair of a key and a pod out of pairs, if it is there. The value of another pair is quoted, so that the
// quotes in it are escaped.
func cutPair(pairs, key, namespace, name string) (string, bool) {
	before, after, found := strings.Cut(pairs, fmt.Sprintf(` %s=%q `, key, namespace+"/"+name))
	if !found {
		return pairs, false
	}
	return before + " " + after, true
}

func jsonDecisionOf(line, namespace, name string) (text string, ok bool) {
	var pairs map[string]json.RawMessage
	var message string
	if json.Unmarshal([]byte(line), &pairs) != nil || json.Unmarshal(pairs["msg"], &message) != nil || !history.Messages.Has(message) {
		return "", false
	}
	is := func(key string) bool {
		var pod struct{ Namespace, Name string }
		return json.Unmarshal(pairs[key], &pod) == nil && pod.Namespace == namespace && pod.Name == name
	}
	switch {
	case is("pod"):
		delete(pairs, "pod")
	case !is("preemptor"):
		return "", false
	}
	for _, key := range []string{"ts", "caller", "logger", "msg", "v"} {
		delete(pairs, key)
	}
	text = message + ":"
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		text += " " + key + "=" + string(pairs[key])
	}
	return text, true
}

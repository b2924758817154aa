// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// bytesFlag is an amount of memory, such as 256Mi; with orNone it may be 0.
type bytesFlag struct {
	bytes  *uint64
	orNone bool
}

// String implements pflag.Value.
func (f *bytesFlag) String() string {
	if f.bytes == nil {
		return ""
	}
	return resource.NewQuantity(int64(*f.bytes), resource.BinarySI).String()
}

// Set implements pflag.Value.
func (f *bytesFlag) Set(value string) error {
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() < 0 || q.Sign() == 0 && !f.orNone {
		return fmt.Errorf("want an amount of memory such as 256Mi, not %q", value)
	}
	*f.bytes = uint64(q.Value())
	return nil
}

// Type implements pflag.Value.
func (f *bytesFlag) Type() string { return "quantity" }

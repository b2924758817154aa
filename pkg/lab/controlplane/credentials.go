// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ClusterName is the one cluster of a kubeconfig of a lab.
const ClusterName = "berth-lab"

// tokenLifetime is longer than any lab lives, so that nobody has to renew a token.
const tokenLifetime = 30 * 24 * time.Hour

// ServiceAccountConfig returns a client configuration with a signed token of the service account, as a pod of that
// account would have it. With a node, the token is bound to that Node object: it carries
// authentication.kubernetes.io/node-name, and is refused once the Node is gone.
func (cp *ControlPlane) ServiceAccountConfig(ctx context.Context, namespace, name string, node *corev1.Node) (*rest.Config, error) {
	spec := authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLifetime.Seconds()))}
	if node != nil {
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID,
		}
	}
	request, err := cp.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request a token of service account %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(cp.config)
	config.BearerToken = request.Status.Token
	return config, nil
}

// WriteKubeconfig writes config as a kubeconfig file that only its owner can read.
func WriteKubeconfig(file string, config *rest.Config) error {
	const name = ClusterName
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   config.Host,
		CertificateAuthorityData: config.CAData,
	}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
		Token:                 config.BearerToken,
	}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	if err := clientcmd.WriteToFile(*kubeconfig, file); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

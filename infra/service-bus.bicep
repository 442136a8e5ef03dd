// What the bridge needs of Service Bus: a namespace, its queues, and who may do what with each.
// Deploy it into the resource group of the app: az deployment group create --template-file infra/service-bus.bicep …

@description('The name of the namespace.')
param name string

param location string = resourceGroup().location

@description('The principal id of the app\'s identity.')
param bridgePrincipalId string

@description('The principal ids of the identities that Airflow\'s triggerers sign in with.')
param listenerPrincipalIds array = []

@description('The principal ids of those that send trigger requests by queue.')
param requesterPrincipalIds array = []

@description('The principal id of the Event Grid topic\'s identity, which puts run events into the queue; empty: none does.')
param topicPrincipalId string = ''

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/integration
var senderRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39')
var receiverRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0')

resource namespace 'Microsoft.ServiceBus/namespaces@2022-10-01-preview' = {
  name: name
  location: location
  sku: { name: 'Standard', tier: 'Standard' } // the Basic tier has no sessions
  properties: { disableLocalAuth: true, minimumTlsVersion: '1.2' }
}

// No duplicate detection: it would drop what is sent to another listener, or again.
// No dead-lettering of what expires: a message for a listener that is gone is nobody's; whoever has its task now registers.
resource completions 'Microsoft.ServiceBus/namespaces/queues@2022-10-01-preview' = {
  parent: namespace
  name: 'adf-bridge-completions' // the provider's own word, where a connection names no other
  properties: { requiresSession: true, requiresDuplicateDetection: false, defaultMessageTimeToLive: 'PT30M', deadLetteringOnMessageExpiration: false }
}

// A function cannot put a message off: its deliveries have to last for an outage.
// No duplicate detection here either: it would drop a dead letter that is sent again.
resource requests 'Microsoft.ServiceBus/namespaces/queues@2022-10-01-preview' = {
  parent: namespace
  name: 'run-requests'
  properties: { maxDeliveryCount: 50, requiresDuplicateDetection: false, deadLetteringOnMessageExpiration: true, lockDuration: 'PT1M' }
}

resource events 'Microsoft.ServiceBus/namespaces/queues@2022-10-01-preview' = {
  parent: namespace
  name: 'run-events'
  properties: { maxDeliveryCount: 500, requiresDuplicateDetection: false, deadLetteringOnMessageExpiration: true, lockDuration: 'PT1M' }
}

resource bridgeSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(completions.id, bridgePrincipalId, senderRole)
  scope: completions
  properties: { roleDefinitionId: senderRole, principalId: bridgePrincipalId, principalType: 'ServicePrincipal' }
}

resource bridgeTakesRequests 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(requests.id, bridgePrincipalId, receiverRole)
  scope: requests
  properties: { roleDefinitionId: receiverRole, principalId: bridgePrincipalId, principalType: 'ServicePrincipal' }
}

resource bridgeTakesEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(events.id, bridgePrincipalId, receiverRole)
  scope: events
  properties: { roleDefinitionId: receiverRole, principalId: bridgePrincipalId, principalType: 'ServicePrincipal' }
}

resource listenersReceive 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in listenerPrincipalIds: {
    name: guid(completions.id, id, receiverRole)
    scope: completions
    properties: { roleDefinitionId: receiverRole, principalId: id, principalType: 'ServicePrincipal' }
  }
]

resource requestersSend 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in requesterPrincipalIds: {
    name: guid(requests.id, id, senderRole)
    scope: requests
    properties: { roleDefinitionId: senderRole, principalId: id, principalType: 'ServicePrincipal' }
  }
]

resource topicSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(topicPrincipalId)) {
  name: guid(events.id, topicPrincipalId, senderRole)
  scope: events
  properties: { roleDefinitionId: senderRole, principalId: topicPrincipalId, principalType: 'ServicePrincipal' }
}

@description('For BRIDGE_SERVICEBUS__fullyQualifiedNamespace.')
output host string = '${namespace.name}.servicebus.windows.net'

/** What a role of the tenant's own can be given, by what it is about. */

import type { TenantPermission } from './api'

/** Every one that the API takes: the type is the generated one, so a stranger does not compile. */
export const PERMISSIONS = [
  'conversations.read',
  'conversations.write',
  'desk.write',
  'blacklist.read',
  'blacklist.write',
  'routing.read',
  'routing.write',
  'answers.read',
  'answers.write',
  'instances.read',
  'instances.write',
  'instances.operate',
  'channels.read',
  'channels.write',
  'revisions.read',
  'revisions.write',
  'providers.read',
  'providers.write',
  'members.read',
  'members.write',
  'roles.write',
  'api_keys.read',
  'api_keys.write',
  'webhooks.read',
  'webhooks.write',
  'sign_on.read',
  'sign_on.write',
  'audit.read',
  'export.read',
  'privacy.read',
  'privacy.write',
  'raw.read',
  'support.end',
  'tenant.read',
  'tenant.write',
  'tenant.inform',
  'tenant.delete',
] as const satisfies readonly TenantPermission[]

type Forgotten = Exclude<TenantPermission, (typeof PERMISSIONS)[number]>
/** Fails to compile when the API has one that stands above nowhere. */
export const isWhole: [Forgotten] extends [never] ? true : never = true

/** Who did what; for operators, on the platform. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type AuditEntry = Schemas['AuditOut']

export interface AuditFilter {
  action: string
  since: string | null
  until: string | null
}

export function listAudit(
  { action, since, until }: AuditFilter,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<AuditEntry>> {
  return api.get('/audit', { query: { cursor, action: action.trim() || null, since, until }, signal })
}

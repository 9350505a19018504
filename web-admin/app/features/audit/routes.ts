import type { RouteRecordRaw } from 'vue-router'

export const auditRoutes: RouteRecordRaw[] = [
  {
    path: 'audit',
    name: 'audit',
    component: () => import('./AuditPage.vue'),
    meta: {
      audience: 'member',
      permission: 'audit.read',
      nav: { group: 'company', order: 60, label: 'nav.audit' },
    },
  },
  {
    path: 'ops/audit',
    name: 'opsAudit',
    component: () => import('./AuditPage.vue'),
    meta: {
      audience: 'operator',
      permission: 'audit.read',
      nav: { group: 'platform', order: 60, label: 'nav.audit' },
    },
  },
]

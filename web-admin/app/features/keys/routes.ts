import type { RouteRecordRaw } from 'vue-router'

export const keysRoutes: RouteRecordRaw[] = [
  {
    path: 'api-keys',
    name: 'keys',
    component: () => import('./KeysPage.vue'),
    meta: {
      audience: 'member',
      permission: 'api_keys.read',
      nav: { group: 'company', order: 40, label: 'nav.keys' },
    },
  },
]

"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#document",
  deepLinking: true,
  // The default draws its badge with an image of another origin.
  validatorUrl: null,
});
